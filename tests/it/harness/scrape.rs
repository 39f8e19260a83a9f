//! Reads what `/metrics` answers, as strictly as its format allows: whatever a Prometheus server or
//! its linter would object to is an error.

use std::collections::{BTreeMap, HashMap};

use super::Api;

/// The samples of one answer.
#[derive(Debug)]
pub struct Scrape {
    pub text: String,
    /// Families by name, each with its type.
    pub families: BTreeMap<String, String>,
    /// By name and labels, as they are written.
    samples: HashMap<String, f64>,
}

/// A sample, taken apart.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// Asks a server, and fails when the answer is not in order.
    #[track_caller]
    pub fn of(api: &Api) -> Self {
        let answer = api.get("/metrics").expect(200);
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
        match Self::parse(&answer.text()) {
            Ok(scrape) => scrape,
            Err(why) => panic!("{why}\n{}", answer.text()),
        }
    }

    /// The value of a sample, by its name and its labels as they are written.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        match self.samples.get(sample) {
            Some(value) => *value,
            None => panic!("no {sample} in\n{}", self.text),
        }
    }

    /// Whether there are samples of this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|sample| sample.split('{').next() == Some(name))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = text.strip_suffix('\n').ok_or("the last line does not end")?;
        let (mut families, mut samples) = (BTreeMap::new(), HashMap::new());
        let mut lines = whole.lines().peekable();
        while let Some(line) = lines.next() {
            let wrong = |why: &str| format!("{why}: {line:?}");
            let help =
                line.strip_prefix("# HELP ").ok_or_else(|| wrong("not the HELP of a family"))?;
            let (family, sentence) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
            check_name(family, true)?;
            if !sentence.ends_with('.') {
                return Err(wrong("no sentence"));
            }
            let kind = lines
                .next()
                .and_then(|line| {
                    line.strip_prefix("# TYPE ")?.strip_prefix(family)?.strip_prefix(' ')
                })
                .ok_or_else(|| wrong("no TYPE follows"))?;
            let mut of_family = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let sample = read_sample(line).map_err(|why| format!("{why}: {line:?}"))?;
                let key = line.rsplit_once(' ').unwrap_or_default().0.to_owned();
                if samples.insert(key, sample.value).is_some() {
                    return Err(format!("a second time: {line:?}"));
                }
                of_family.push(sample);
            }
            check_family(family, kind, &of_family).map_err(|why| format!("{family}: {why}"))?;
            if families.insert(family.to_owned(), kind.to_owned()).is_some() {
                return Err(wrong("a family for the second time"));
            }
        }
        Ok(Self { text: text.to_owned(), families, samples })
    }
}

fn check_name(name: &str, is_metric: bool) -> Result<(), String> {
    let mut letters = name.chars();
    let is_first = |it: char| it.is_ascii_lowercase() || it == '_';
    let is_name = letters.next().is_some_and(is_first)
        && letters.all(|it| is_first(it) || it.is_ascii_digit())
        && (is_metric || !name.starts_with("__"));
    if is_name { Ok(()) } else { Err(format!("no name: {name:?}")) }
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    check_name(name, true)?;
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or("no label")?;
            check_name(label, false)?;
            let mut read = String::new();
            let mut letters = value.char_indices();
            let end = loop {
                match letters.next().ok_or("a label does not end")? {
                    (at, '"') => break at,
                    (_, '\\') => read.push(match letters.next() {
                        Some((_, 'n')) => '\n',
                        Some((_, letter @ ('\\' | '"'))) => letter,
                        other => return Err(format!("no escape: {other:?}")),
                    }),
                    (_, letter) => read.push(letter),
                }
            };
            if labels.iter().any(|(known, _)| known == label) {
                return Err(format!("{label} for the second time"));
            }
            labels.push((label.to_owned(), read));
            rest = &value[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').ok_or("the labels do not end")?;
    }
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    let value: f64 = value.parse().map_err(|_| format!("no number: {value:?}"))?;
    if !value.is_finite() || value < 0.0 {
        return Err("a value that nothing here can have".to_owned());
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn check_family(family: &str, kind: &str, samples: &[Sample]) -> Result<(), String> {
    if samples.is_empty() {
        return Err("no samples".to_owned());
    }
    let label_names = |sample: &Sample| -> Vec<String> {
        sample.labels.iter().map(|(name, _)| name.clone()).collect()
    };
    match kind {
        "histogram" => return check_histogram(family, samples),
        "counter" if !family.ends_with("_total") => return Err("a counter is a _total".to_owned()),
        "gauge" if family.ends_with("_total") => return Err("a gauge is no _total".to_owned()),
        "counter" | "gauge" => {}
        _ => return Err(format!("no type: {kind:?}")),
    }
    let all_alike =
        samples.iter().all(|it| it.name == family && label_names(it) == label_names(&samples[0]));
    if all_alike { Ok(()) } else { Err("samples of different kinds".to_owned()) }
}

/// One histogram, without labels but `le`.
fn check_histogram(family: &str, samples: &[Sample]) -> Result<(), String> {
    let of = |suffix: &str| -> Vec<&Sample> {
        let name = format!("{family}_{suffix}");
        samples.iter().filter(|sample| sample.name == name).collect()
    };
    let (buckets, sum, count) = (of("bucket"), of("sum"), of("count"));
    if buckets.len() + 2 != samples.len() || sum.len() != 1 || count.len() != 1 {
        return Err("not the buckets, a sum and a count".to_owned());
    }
    let (mut bound, mut below) = (f64::NEG_INFINITY, 0.0);
    for bucket in &buckets {
        let [(label, text)] = bucket.labels.as_slice() else {
            return Err("a bucket has one label".to_owned());
        };
        let next: f64 = text.parse().map_err(|_| format!("no bound: {text}"))?;
        // No NaN is greater than anything.
        let is_next = label == "le" && next > bound && bucket.value >= below;
        if !is_next {
            return Err(format!("the bucket {text} is out of order"));
        }
        (bound, below) = (next, bucket.value);
    }
    let last = buckets.last().map(|bucket| bucket.value);
    if bound != f64::INFINITY || last != Some(count[0].value) {
        return Err("the last bucket holds not all".to_owned());
    }
    if (count[0].value == 0.0) != (sum[0].value == 0.0) {
        return Err("a sum of nothing".to_owned());
    }
    Ok(())
}
