//! A table as plain data, and back.

use super::cold::Cold;
use super::{Key, Table, shard_of};
use crate::kinds::rate_limit::cell::{Cell, Rate};
use crate::kinds::rate_limit::state::{SavedLimit, Times};
use crate::time::Timestamp;

impl Table {
    /// Shard by shard, so that no request waits for more than one. Returns the rate in which the times are written.
    pub(in crate::kinds::rate_limit) fn save(&self, now: Timestamp, into: &mut SavedLimit) -> Rate {
        // Shards take over a new rate one by one.
        let times = Times { rate: self.shards[0].hot.read().rates.wanted, now };
        for shard in &self.shards {
            let hot = shard.hot.read();
            for (Key(low, high), cell) in &hot.cells {
                if let Some(time) = times.of(cell, hot.rates.current) {
                    into.keys.extend([*low, *high]);
                    into.times.push(time);
                }
            }
        }
        if self
            .shards
            .iter()
            .any(|shard| shard.cold.lock().cells().iter().any(|cell| cell.full_again() > now))
        {
            self.save_cold(times, &mut into.cold);
        }
        times.rate
    }

    fn save_cold(&self, times: Times, into: &mut Vec<u64>) {
        for shard in &self.shards {
            // In the order of the locks.
            let hot = shard.hot.read();
            shard.cold.lock().save(times, hot.rates.current, into);
        }
    }

    pub(in crate::kinds::rate_limit) fn restore(
        &self,
        rate: Rate,
        saved: &SavedLimit,
        time: impl Fn(u64) -> Option<Timestamp>,
    ) {
        let each = saved.cold.len() / self.shards.len();
        for (i, shard) in self.shards.iter().enumerate() {
            shard.hot.write().rates.current = rate;
            shard.cold.lock().restore(&saved.cold[i * each..(i + 1) * each], &time);
        }
        for (halves, written) in saved.keys.chunks_exact(2).zip(&saved.times) {
            let Some(full_again) = time(*written) else { continue };
            let key = Key(halves[0], halves[1]);
            let shard = &self.shards[shard_of(key.into())];
            let mut hot = shard.hot.write();
            if hot.cells.len() < self.keys_per_shard {
                hot.cells.insert(key, Cell::full_at(full_again));
            } else {
                // Of a version with room for more.
                shard.cold.lock().raise(key.into(), full_again);
            }
        }
    }
}

impl Cold {
    fn save(&self, times: Times, rate: Rate, into: &mut Vec<u64>) {
        let size = self.size();
        let cells = self.cells().iter().map(|cell| times.of(cell, rate).unwrap_or_default());
        let before = into.len();
        into.extend(cells);
        into.resize(before + size, 0);
    }

    /// A sketch of another size, of another version, is not taken over: nobody knows which keys its cells are of.
    fn restore(&mut self, saved: &[u64], time: impl Fn(u64) -> Option<Timestamp>) {
        if saved.len() != self.size() || saved.iter().all(|time| *time == 0) {
            return;
        }
        self.make_room();
        for (cell, saved) in self.cells().iter().zip(saved) {
            cell.raise(time(*saved).unwrap_or_default());
        }
    }
}
