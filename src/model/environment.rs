//! The environment of a program: variables with unique names, in the order in which they were set. All
//! of them are in one text, as execve(2) takes them.

use std::fmt::{self, Display, Write};

/// See the module. `Debug` shows no values: some are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NAME=value` of each variable. A replaced value stays in here.
    text: String,
    variables: Vec<Variable>,
}

/// Where a variable is in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Variable {
    start: usize,
    value: usize,
    end: usize,
}

impl Environment {
    /// An empty environment with room for so many variables and bytes.
    pub fn with_capacity(variables: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), variables: Vec::with_capacity(variables) }
    }

    /// The same variables, with room for so many more variables and bytes.
    pub fn with_room(&self, variables: usize, bytes: usize) -> Self {
        let variables = self.variables.len() + variables;
        let mut copy = Self::with_capacity(variables, self.text.len() + bytes);
        copy.text.push_str(&self.text);
        copy.variables.extend_from_slice(&self.variables);
        copy
    }

    /// Sets a variable that is not set.
    pub fn set(&mut self, name: impl Display, value: impl Display) {
        let variable = self.append(name, value);
        debug_assert!(self.get(self.part(variable.start, variable.value - 1)).is_none());
        self.variables.push(variable);
    }

    /// Sets a variable. It takes the place of a variable of the same name.
    pub fn replace(&mut self, name: &str, value: &str) {
        let variable = self.append(name, value);
        match self.place_of(name) {
            Some(place) => self.variables[place] = variable,
            None => self.variables.push(variable),
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let Variable { value, end, .. } = self.variables[self.place_of(name)?];
        Some(self.part(value, end))
    }

    /// Its variables, as names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let variables = self.variables.iter();
        variables.map(|it| (self.part(it.start, it.value - 1), self.part(it.value, it.end)))
    }

    /// Its variables, as `NAME=value`.
    pub fn assignments(&self) -> impl ExactSizeIterator<Item = &str> {
        self.variables.iter().map(|it| self.part(it.start, it.end))
    }

    fn append(&mut self, name: impl Display, value: impl Display) -> Variable {
        let start = self.text.len();
        // A String takes every text.
        let _ = write!(self.text, "{name}=");
        let at = self.text.len();
        let _ = write!(self.text, "{value}");
        Variable { start, value: at, end: self.text.len() }
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|it| self.part(it.start, it.value - 1) == name)
    }

    fn part(&self, start: usize, end: usize) -> &str {
        &self.text[start..end]
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Environment {
    /// Of two variables of one name the later one counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            environment.replace(name.as_ref(), value.as_ref());
        }
        environment
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_variable_keeps_its_place() {
        let mut environment = Environment::default();
        environment.set("A", 1);
        environment.set(format_args!("{}_{}", "B", "C"), "x=y");
        environment.replace("A", "two");
        environment.replace("D", "");
        let pairs: Vec<_> = environment.iter().collect();
        assert_eq!(pairs, [("A", "two"), ("B_C", "x=y"), ("D", "")]);
        let assignments: Vec<_> = environment.assignments().collect();
        assert_eq!(assignments, ["A=two", "B_C=x=y", "D="]);
        assert_eq!(environment.get("D"), Some(""));
        assert_eq!(environment.get("B"), None);
        let later = Environment::from_iter([("A", "1"), ("B", "2"), ("A", "3")]);
        assert_eq!(later.iter().collect::<Vec<_>>(), [("A", "3"), ("B", "2")]);
        assert_eq!(format!("{later:?}"), r#"["A", "B"]"#);
    }
}
