//! The graph of a fleet: which vessel starts after which, and under what condition.

use serde::{Deserialize, Serialize};

use crate::model::run::Status;

/// A directed edge between two vessels, by their index within the fleet version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    pub from: u16,
    pub to: u16,
    pub condition: Condition,
}

/// When a path lets its downstream vessel start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Condition {
    /// The upstream vessel ended with exit code 0.
    #[default]
    Success,
    /// It ended with another exit code, by a signal, or could not be started.
    Errored,
    /// It ended either way.
    Completed,
}

impl Condition {
    pub const ALL: [Condition; 3] = [Condition::Success, Condition::Errored, Condition::Completed];

    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Success => "SUCCESS",
            Condition::Errored => "ERRORED",
            Condition::Completed => "COMPLETED",
        }
    }

    /// Whether an upstream vessel that ended as `end` satisfies the path. Neither a vessel that
    /// never ran nor one that was stopped satisfies any.
    pub fn holds(self, end: Status) -> bool {
        match self {
            Condition::Success => end == Status::Success,
            Condition::Errored => end == Status::Errored,
            Condition::Completed => matches!(end, Status::Success | Status::Errored),
        }
    }
}

/// Whether a vessel may start, by its upstream vessels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Some upstream vessel has not ended, and none has ruled it out.
    Waiting,
    /// Every incoming path holds.
    Ready,
    /// The path from this upstream vessel, with this condition, can no longer hold.
    Never(usize, Condition),
}

/// The neighbours of every vessel, in the order of the fleet file. Holds no cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    upstream: Vec<Vec<(usize, Condition)>>,
    downstream: Vec<Vec<usize>>,
}

/// Why paths do not make a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("the path from vessel {from} to vessel {to} leaves the fleet")]
    UnknownVessel { from: usize, to: usize },
    #[error("two paths lead from vessel {from} to vessel {to}")]
    DuplicatePath { from: usize, to: usize },
    /// The vessels along the cycle, each once.
    #[error("the paths form a cycle")]
    Cycle(Vec<usize>),
}

impl Graph {
    /// The graph of `vessels` vessels joined by `paths`.
    ///
    /// # Errors
    /// When a path leaves the fleet, appears twice, or closes a cycle (also onto itself).
    pub fn new(vessels: usize, paths: &[Path]) -> Result<Self, GraphError> {
        let mut graph =
            Self { upstream: vec![Vec::new(); vessels], downstream: vec![Vec::new(); vessels] };
        for path in paths {
            let (from, to) = (usize::from(path.from), usize::from(path.to));
            if from >= vessels || to >= vessels {
                return Err(GraphError::UnknownVessel { from, to });
            }
            if graph.downstream[from].contains(&to) {
                return Err(GraphError::DuplicatePath { from, to });
            }
            graph.downstream[from].push(to);
            graph.upstream[to].push((from, path.condition));
        }
        match graph.cycle() {
            Some(cycle) => Err(GraphError::Cycle(cycle)),
            None => Ok(graph),
        }
    }

    /// How many vessels there are.
    pub fn len(&self) -> usize {
        self.upstream.len()
    }

    /// The vessels directly before `vessel`.
    pub fn upstream(&self, vessel: usize) -> impl Iterator<Item = usize> + '_ {
        self.upstream[vessel].iter().map(|(from, _)| *from)
    }

    /// The vessels directly after `vessel`.
    pub fn downstream(&self, vessel: usize) -> &[usize] {
        &self.downstream[vessel]
    }

    /// The vessels that nothing comes before: where a run starts.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|vessel| self.upstream[*vessel].is_empty())
    }

    /// The vessels that branch off the same upstream as `vessel` (itself included), in order; for
    /// a root, all roots.
    pub fn currentstream(&self, vessel: usize) -> Vec<usize> {
        if self.upstream[vessel].is_empty() {
            return self.roots().collect();
        }
        let shares_upstream = |other: usize| {
            self.upstream(other).any(|from| self.upstream(vessel).any(|own| own == from))
        };
        (0..self.len()).filter(|other| shares_upstream(*other)).collect()
    }

    /// Every vessel that can be reached from `vessel`, itself excluded.
    pub fn descendants(&self, vessel: usize) -> Vec<usize> {
        let mut seen = vec![false; self.len()];
        let mut open = self.downstream[vessel].clone();
        let mut reached = Vec::new();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut seen[next], true) {
                reached.push(next);
                open.extend(&self.downstream[next]);
            }
        }
        reached
    }

    /// Whether `vessel` may start, given how each vessel ended (`None`: not yet).
    pub fn readiness(&self, vessel: usize, ended: impl Fn(usize) -> Option<Status>) -> Readiness {
        let mut readiness = Readiness::Ready;
        for (from, condition) in &self.upstream[vessel] {
            match ended(*from) {
                Some(end) if condition.holds(end) => {}
                Some(_) => return Readiness::Never(*from, *condition),
                None => readiness = Readiness::Waiting,
            }
        }
        readiness
    }

    /// Some cycle, if there is one: peels off vessels without upstream until none is left or only
    /// vessels on or behind cycles remain, then walks upstream among those until one repeats.
    fn cycle(&self) -> Option<Vec<usize>> {
        let mut open: Vec<usize> = self.roots().collect();
        let mut waits_for: Vec<usize> = self.upstream.iter().map(Vec::len).collect();
        let mut left = self.len();
        while let Some(vessel) = open.pop() {
            left -= 1;
            for next in &self.downstream[vessel] {
                waits_for[*next] -= 1;
                if waits_for[*next] == 0 {
                    open.push(*next);
                }
            }
        }
        if left == 0 {
            return None;
        }
        let mut vessel = waits_for.iter().position(|count| *count > 0)?;
        let mut walk: Vec<usize> = Vec::new();
        loop {
            if let Some(start) = walk.iter().position(|seen| *seen == vessel) {
                let mut cycle = walk.split_off(start);
                cycle.reverse();
                return Some(cycle);
            }
            walk.push(vessel);
            vessel = self.upstream(vessel).find(|from| waits_for[*from] > 0)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(from: u16, to: u16) -> Path {
        Path { from, to, condition: Condition::Success }
    }

    #[test]
    fn cycles_are_named_in_walking_order() {
        let paths = [path(0, 1), path(1, 2), path(2, 3), path(3, 1), path(3, 4)];
        let Err(GraphError::Cycle(mut cycle)) = Graph::new(5, &paths) else {
            panic!("the cycle was not seen");
        };
        let start = cycle.iter().position(|vessel| *vessel == 1).unwrap();
        cycle.rotate_left(start);
        assert_eq!(cycle, [1, 2, 3]);
        assert_eq!(Graph::new(1, &[path(0, 0)]), Err(GraphError::Cycle(vec![0])));
    }

    #[test]
    fn paths_are_unique_and_stay_within_the_fleet() {
        assert_eq!(
            Graph::new(2, &[path(0, 1), path(0, 1)]),
            Err(GraphError::DuplicatePath { from: 0, to: 1 })
        );
        assert_eq!(Graph::new(2, &[path(0, 2)]), Err(GraphError::UnknownVessel { from: 0, to: 2 }));
    }

    #[test]
    fn a_diamond_has_its_upstream_and_downstream_vessels() {
        let graph = Graph::new(4, &[path(0, 1), path(0, 2), path(1, 3), path(2, 3)]).unwrap();
        assert_eq!(graph.currentstream(1), [1, 2]);
        assert_eq!(graph.currentstream(0), [0]);
        assert_eq!(graph.upstream(3).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(graph.downstream(0), [1, 2]);
        let mut below = graph.descendants(0);
        below.sort_unstable();
        assert_eq!(below, [1, 2, 3]);
    }
}
