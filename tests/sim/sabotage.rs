//! Ways to break the server on purpose, each of which the simulation must notice. They act where
//! the engine meets the world around it, so that nothing of them is in the program itself.

use boathook::internals::{
    ArrivalRecord, CatchUp, Change, Condition, Delivery, FleetDefinition, Overlap, Retention,
    Status,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Commits are acknowledged before they are on the disk.
    AcknowledgeBeforeSync,
    /// That an attempt starts is not stored.
    ForgetAttempts,
    /// The end of a vessel is stored without what follows from it.
    SettleAlone,
    /// Some accepted runs have no place in the stored queue.
    LoseQueueRows,
    /// The end of some vessels is not stored: they would run again.
    ForgetEnds,
    /// A slice of some payloads is damaged.
    TearPayloads,
    /// The engine takes every fleet's concurrency for unlimited.
    IgnoreConcurrency,
    /// The engine takes every path for COMPLETED.
    IgnoreConditions,
    /// The engine takes at_most_once for at_least_once.
    IgnoreDelivery,
    /// The engine retries once more than it may.
    RetryOnceMore,
    /// Work directories of runs that start again are not removed.
    SkipWipe,
    /// The cleanups of interrupted attempts do nothing.
    SkipCleanups,
    /// The server does not notice that the machine has rebooted.
    OverlookReboot,
    /// The engine takes every fleet for one that keeps a single run.
    KeepTooLittle,
    /// Vessels of runs that are removed stay.
    LeaveAttempts,
    /// Some events are not stored with their runs.
    ForgetEvents,
    /// That the run of an event has failed is not stored.
    ForgetFailures,
    /// That some due times have run is not stored.
    ForgetDueTimes,
    /// Which due times wait for room is not stored.
    ForgetWaitingDueTimes,
    /// The engine catches up with nothing.
    IgnoreCatchUp,
    /// Some deliveries are not stored.
    ForgetDeliveries,
    /// Deliveries stay, however many there are.
    LeaveDeliveries,
    /// Runs are removed without a mark: a crash leaves their remains.
    ForgetRemovals,
    /// The engine holds no run back.
    IgnoreDebounce,
    /// Until when a run is held back is not stored.
    ForgetHolds,
    /// The engine lets older runs go on.
    IgnoreCancel,
    /// Some runs that end are not counted.
    ForgetCounts,
}

impl Sabotage {
    pub const ALL: [Sabotage; 27] = [
        Sabotage::AcknowledgeBeforeSync,
        Sabotage::ForgetAttempts,
        Sabotage::SettleAlone,
        Sabotage::LoseQueueRows,
        Sabotage::ForgetEnds,
        Sabotage::TearPayloads,
        Sabotage::IgnoreConcurrency,
        Sabotage::IgnoreConditions,
        Sabotage::IgnoreDelivery,
        Sabotage::RetryOnceMore,
        Sabotage::SkipWipe,
        Sabotage::SkipCleanups,
        Sabotage::OverlookReboot,
        Sabotage::KeepTooLittle,
        Sabotage::LeaveAttempts,
        Sabotage::ForgetEvents,
        Sabotage::ForgetFailures,
        Sabotage::ForgetDueTimes,
        Sabotage::ForgetWaitingDueTimes,
        Sabotage::IgnoreCatchUp,
        Sabotage::ForgetDeliveries,
        Sabotage::LeaveDeliveries,
        Sabotage::ForgetRemovals,
        Sabotage::IgnoreDebounce,
        Sabotage::ForgetHolds,
        Sabotage::IgnoreCancel,
        Sabotage::ForgetCounts,
    ];

    /// Changes what commit number `number` writes.
    pub fn tamper(self, changes: &mut Vec<Change>, number: u64) {
        let is_end = |change: &Change| match change {
            Change::PutVesselRun(record) => record.ended_at.is_some() && record.attempt > 0,
            _ => false,
        };
        match self {
            Sabotage::ForgetAttempts => changes.retain(|change| {
                !matches!(change, Change::PutVesselRun(record) if record.status == Status::Running)
            }),
            Sabotage::SettleAlone if changes.iter().any(is_end) => changes.retain(is_end),
            Sabotage::LeaveAttempts => {
                changes.retain(|change| !matches!(change, Change::RemoveAttempt { .. }));
            }
            Sabotage::ForgetDeliveries if number.is_multiple_of(2) => changes.retain(|change| {
                !matches!(change, Change::PutDelivery(_) | Change::PutDeliveryRequest { .. })
            }),
            Sabotage::LeaveDeliveries => {
                changes.retain(|change| !matches!(change, Change::RemoveDelivery { .. }));
            }
            Sabotage::ForgetRemovals => {
                let forgotten = changes.iter().filter_map(|change| match change {
                    Change::BeginRemoval { run, .. } => Some(Change::EndRemoval(*run)),
                    _ => None,
                });
                let forgotten: Vec<Change> = forgotten.collect();
                changes.extend(forgotten);
            }
            Sabotage::ForgetEvents if number.is_multiple_of(8) => {
                changes.retain(|change| !matches!(change, Change::PutEvent { .. }));
            }
            Sabotage::ForgetFailures => changes.retain(|change| {
                !matches!(change, Change::PutEvent { entry, .. } if entry.has_failed)
            }),
            Sabotage::ForgetDueTimes if number.is_multiple_of(4) => {
                changes.retain(|change| {
                    !matches!(change, Change::PutSchedule { entry, .. } if !entry.ran.is_empty())
                });
            }
            Sabotage::ForgetWaitingDueTimes => {
                for change in changes {
                    if let Change::PutSchedule { entry, .. } = change {
                        entry.waiting.clear();
                    }
                }
            }
            Sabotage::ForgetHolds => {
                for change in changes {
                    if let Change::PutQueueEntry(entry) = change
                        && let Some(arrival) = &entry.arrival
                    {
                        entry.arrival = ArrivalRecord { hold: None, ..arrival.unpack() }.pack();
                    }
                }
            }
            Sabotage::ForgetCounts if number.is_multiple_of(4) => {
                changes.retain(|change| !matches!(change, Change::CountRun(_)));
            }
            Sabotage::LoseQueueRows if number.is_multiple_of(8) => {
                changes.retain(|change| !matches!(change, Change::PutQueueEntry(_)));
            }
            Sabotage::ForgetEnds if number.is_multiple_of(8) => changes.retain(|change| !is_end(change)),
            Sabotage::TearPayloads if number.is_multiple_of(8) => {
                for change in changes {
                    if let Change::PutPayload { bytes, .. } = change
                        && let Some(last) = bytes.last_mut()
                    {
                        *last ^= 1;
                    }
                }
            }
            _ => {}
        }
    }

    /// What the engine is told a fleet is.
    pub fn misread(self, definition: &mut FleetDefinition) {
        match self {
            Sabotage::IgnoreConcurrency => definition.concurrency = None,
            Sabotage::KeepTooLittle => definition.keep_runs = Retention::new(None, Some(1)).ok(),
            Sabotage::IgnoreConditions => {
                definition.paths.iter_mut().for_each(|path| path.condition = Condition::Completed);
            }
            Sabotage::IgnoreCatchUp => {
                definition.schedules.iter_mut().for_each(|it| it.catch_up = CatchUp::None);
            }
            Sabotage::IgnoreDebounce => definition.debounce = None,
            Sabotage::IgnoreCancel if definition.overlap == Overlap::Cancel => {
                definition.overlap = Overlap::Queue;
            }
            Sabotage::IgnoreDelivery => definition.delivery = Delivery::AtLeastOnce,
            Sabotage::RetryOnceMore => {
                definition.vessels.iter_mut().for_each(|it| it.guardrails.retry_count += 1);
            }
            _ => {}
        }
    }
}
