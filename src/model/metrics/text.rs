//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Pure.

use std::fmt::{Display, Write};

use super::{Counters, Histogram, Unit};

/// The Content-Type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of samples, one after the other.
#[derive(Debug, Default)]
pub struct Text(String);

/// A family that is being written.
#[derive(Debug)]
pub struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl Text {
    /// A counter. `name` ends in `_total`, `help` is a sentence.
    pub fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.counters(name, help).sample(&[], value);
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.gauges(name, help).sample(&[], value);
    }

    /// Counters that differ in their labels.
    pub fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Gauges that differ in their labels.
    pub fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A histogram; durations are told in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        let reading = histogram.read();
        let number = |value: u64| match reading.unit {
            Unit::Count => value.to_string(),
            Unit::Micros => seconds(value),
        };
        let text = self.family(name, "histogram", help).text;
        for (bound, count) in &reading.buckets {
            push(text, &[name, "_bucket"], &[("le", &number(*bound))], count);
        }
        push(text, &[name, "_bucket"], &[("le", "+Inf")], reading.count);
        push(text, &[name, "_sum"], &[], number(reading.sum));
        push(text, &[name, "_count"], &[], reading.count);
    }

    /// All that was written.
    pub fn into_string(self) -> String {
        self.0
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.0.extend(["# HELP ", name, " ", &help, "\n# TYPE ", name, " ", kind, "\n"]);
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    /// A sample with these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        push(self.text, &[self.name], labels, value);
        self
    }

    /// A sample for each kind, under the label `kind_label` beside the others.
    pub fn each<K: Copy + PartialEq + Display>(
        &mut self,
        labels: &[(&str, &str)],
        kind_label: &str,
        counters: &Counters<K>,
    ) -> &mut Self {
        for (kind, count) in counters.iter() {
            let kind = kind.to_string();
            let all: Vec<_> = labels.iter().copied().chain([(kind_label, kind.as_str())]).collect();
            self.sample(&all, count);
        }
        self
    }
}

fn push(text: &mut String, name: &[&str], labels: &[(&str, &str)], value: impl Display) {
    text.extend(name.iter().copied());
    for (index, (label, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        text.extend([if index == 0 { "{" } else { "," }, label, "=\"", &value, "\""]);
    }
    if !labels.is_empty() {
        text.push('}');
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, " {value}");
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_look_as_prometheus_wants_them() {
        let mut text = Text::default();
        text.gauge("a_bytes", "One\\two\nthree.", 7);
        text.counters("b_total", "Of kinds.").sample(&[("x", "1\"\\\n")], 2).each(
            &[("x", "y")],
            "kind",
            &Counters::of(&["k", "l"]),
        );
        let expected = r#"# HELP a_bytes One\\two\nthree.
# TYPE a_bytes gauge
a_bytes 7
# HELP b_total Of kinds.
# TYPE b_total counter
b_total{x="1\"\\\n"} 2
b_total{x="y",kind="k"} 0
b_total{x="y",kind="l"} 0
"#;
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn durations_are_told_in_seconds_and_exactly() {
        let histogram = Histogram::of_durations(&[100, 1_000_000, 2_500_000]);
        histogram.observe_duration(Duration::from_micros(99));
        histogram.observe_duration(Duration::from_millis(10_001));
        let mut text = Text::default();
        text.histogram("t_seconds", "Time.", &histogram);
        let expected = r#"# HELP t_seconds Time.
# TYPE t_seconds histogram
t_seconds_bucket{le="0.0001"} 1
t_seconds_bucket{le="1"} 1
t_seconds_bucket{le="2.5"} 1
t_seconds_bucket{le="+Inf"} 2
t_seconds_sum 10.001099
t_seconds_count 2
"#;
        assert_eq!(text.into_string(), expected);
        assert_eq!((seconds(0), seconds(10_000_000)), ("0".into(), "10".into()));
    }
}
