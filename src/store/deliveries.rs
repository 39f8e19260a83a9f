//! Reads the rows of deliveries that started no run.

use crate::model::delivery::Delivery;
use crate::model::ids::{FleetId, RequestId};
use crate::store::chunks::ChunkReader;
use crate::store::read::{or_stop, readable};
use crate::store::tables::Table;
use crate::store::{Store, keys};

impl Store {
    /// The delivery of this id.
    pub fn delivery(&self, id: RequestId) -> Option<Delivery> {
        let row = or_stop(self.database.get(Table::Deliveries, id.as_bytes()))?;
        readable("deliveries", &row)
    }

    /// Deliveries before the id `before`, the latest first.
    pub fn deliveries_before(
        &self,
        before: Option<RequestId>,
    ) -> impl Iterator<Item = Delivery> + '_ {
        let before = before.as_ref().map(|id| id.as_bytes().as_slice());
        let rows = self.database.range(Table::Deliveries, &[], before);
        rows.rev()
            .map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(_, row)| readable("deliveries", &row))
    }

    /// Deliveries of `fleet` before the id `before`, the latest first.
    pub fn deliveries_of_fleet_before(
        &self,
        fleet: FleetId,
        before: Option<RequestId>,
    ) -> impl Iterator<Item = Delivery> + '_ {
        let end = match before {
            Some(id) => keys::delivery_of_fleet(fleet, id),
            None => keys::after(fleet.as_bytes()),
        };
        let rows = self.database.range(Table::DeliveriesByFleet, fleet.as_bytes(), Some(&end));
        rows.rev()
            .map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(key, _)| RequestId::from_slice(key.get(16..)?))
            .filter_map(|id| self.delivery(id))
    }

    /// Deliveries of `fleet`, the oldest first.
    pub fn oldest_deliveries(&self, fleet: FleetId) -> impl Iterator<Item = Delivery> + '_ {
        let rows = self.database.prefixed(Table::DeliveriesByFleet, fleet.as_bytes());
        rows.map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(key, _)| RequestId::from_slice(key.get(16..)?))
            .filter_map(|id| self.delivery(id))
    }

    /// Deliveries of all fleets after the id `after`, the oldest first.
    pub fn deliveries_after(
        &self,
        after: Option<RequestId>,
    ) -> impl Iterator<Item = Delivery> + '_ {
        let start = after.map(|id| [id.as_bytes().as_slice(), &[0]].concat()).unwrap_or_default();
        let rows = self.database.range(Table::Deliveries, &start, None);
        rows.map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(_, row)| readable("deliveries", &row))
    }

    /// The oldest delivery with a stored request after the id `after`, and the rows of that request. The
    /// delivery itself may be unreadable.
    pub fn next_delivery_request(&self, after: Option<RequestId>) -> Option<(RequestId, u32)> {
        let start = after.map(|id| keys::after(id.as_bytes())).unwrap_or_default();
        let row = self.database.range(Table::DeliveryRequests, &start, None).next();
        let (key, _) = or_stop(row.transpose())?;
        let id = RequestId::from_slice(key.get(..16)?)?;
        let last = self.database.prefixed(Table::DeliveryRequests, id.as_bytes()).next_back();
        let (key, _) = or_stop(last.transpose())?;
        Some((id, keys::last_number(&key)? + 1))
    }

    /// `length` bytes of the stored head and body of a delivery, from byte `offset` on.
    pub fn delivery_request(&self, id: RequestId, offset: u64, length: u64) -> ChunkReader {
        self.chunks(Table::DeliveryRequests, id.as_bytes().to_vec(), offset, length)
    }
}
