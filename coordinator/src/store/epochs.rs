//! Challenges and their answers, so that an epoch is logged once whatever becomes of the process.

use std::collections::BTreeMap;

use glassbloom_spec::{curve::SIGNATURE_LEN, hash::Hash, id::UnixSeconds, leaf::Transcript};
use sqlx::{Row, sqlite::SqliteRow};

use super::Store;

/// An epoch for which challenges went out and no batch is signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenEpoch {
    pub(crate) epoch: UnixSeconds,
    pub(crate) seconds: u64,
    pub(crate) beacon: Vec<u8>,
    /// By the attestation's leaf hash.
    pub(crate) answers: BTreeMap<Hash, Option<[u8; SIGNATURE_LEN]>>,
}

impl Store {
    /// Notes for which attestations challenges are about to go out.
    pub(crate) async fn open_epoch(&self, open: &OpenEpoch) -> Result<(), sqlx::Error> {
        let mut tx = self.0.begin().await?;
        sqlx::query("INSERT INTO epochs (epoch, seconds, beacon) VALUES (?, ?, ?)")
            .bind(open.epoch.get() as i64)
            .bind(open.seconds as i64)
            .bind(open.beacon.as_slice())
            .execute(&mut *tx)
            .await?;
        for (attestation, signature) in &open.answers {
            sqlx::query("INSERT INTO challenges (epoch, attestation, signature) VALUES (?, ?, ?)")
                .bind(open.epoch.get() as i64)
                .bind(attestation.as_bytes().as_slice())
                .bind(signature.as_ref().map(<[u8; SIGNATURE_LEN]>::as_slice))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await
    }

    /// Notes an answer that verifies; the first one counts.
    pub(crate) async fn answer(&self, epoch: UnixSeconds, answer: &Transcript) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE challenges SET signature = ? WHERE epoch = ? AND attestation = ? AND signature IS NULL \
             AND (SELECT batch IS NULL FROM epochs e WHERE e.epoch = challenges.epoch)",
        )
        .bind(answer.signature.as_slice())
        .bind(epoch.get() as i64)
        .bind(answer.attestation.as_bytes().as_slice())
        .execute(&self.0)
        .await?;
        Ok(())
    }

    /// Ends an epoch with its signed batch and the answers that it is over.
    pub(crate) async fn close_epoch(
        &self,
        epoch: UnixSeconds,
        batch: &[u8],
        answers: &[Transcript],
    ) -> Result<(), sqlx::Error> {
        let mut tx = self.0.begin().await?;
        // What counts is what the batch says: an answer that was being written meanwhile is not in it.
        sqlx::query("UPDATE challenges SET signature = NULL WHERE epoch = ?")
            .bind(epoch.get() as i64)
            .execute(&mut *tx)
            .await?;
        for answer in answers {
            sqlx::query("UPDATE challenges SET signature = ? WHERE epoch = ? AND attestation = ?")
                .bind(answer.signature.as_slice())
                .bind(epoch.get() as i64)
                .bind(answer.attestation.as_bytes().as_slice())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("UPDATE epochs SET batch = ? WHERE epoch = ? AND batch IS NULL")
            .bind(batch)
            .bind(epoch.get() as i64)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    /// Signed batches that the log has not taken yet, oldest first.
    pub(crate) async fn unlogged_batches(&self) -> Result<Vec<(UnixSeconds, Vec<u8>)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT epoch, batch FROM epochs WHERE batch IS NOT NULL AND logged = 0 ORDER BY epoch",
        )
        .fetch_all(&self.0)
        .await?;
        rows.into_iter().map(|row| Ok((epoch(&row)?, row.try_get("batch")?))).collect()
    }

    /// Notes that the log has taken a batch.
    pub(crate) async fn batch_logged(&self, epoch: UnixSeconds) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE epochs SET logged = 1 WHERE epoch = ?")
            .bind(epoch.get() as i64)
            .execute(&self.0)
            .await?;
        Ok(())
    }

    /// When the last epoch ends for which challenges went out.
    pub(crate) async fn last_epoch_ends(&self) -> Result<Option<UnixSeconds>, sqlx::Error> {
        let end: Option<i64> =
            sqlx::query_scalar("SELECT max(epoch + seconds) FROM epochs").fetch_one(&self.0).await?;
        Ok(end.map(|end| UnixSeconds::new(end as u64)))
    }

    /// Epochs that an earlier process left without a batch, oldest first.
    pub(crate) async fn open_epochs(&self) -> Result<Vec<OpenEpoch>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT epoch, seconds, beacon FROM epochs WHERE batch IS NULL ORDER BY epoch")
                .fetch_all(&self.0)
                .await?;
        let mut open = Vec::new();
        for row in rows {
            let (epoch, seconds): (_, i64) = (epoch(&row)?, row.try_get("seconds")?);
            let answers = self.answers(epoch).await?;
            open.push(OpenEpoch { epoch, seconds: seconds as u64, beacon: row.try_get("beacon")?, answers });
        }
        Ok(open)
    }

    /// The logged batch of an epoch, with the answers that it is over.
    pub(crate) async fn challenges(
        &self,
        epoch: UnixSeconds,
    ) -> Result<Option<(Vec<u8>, Vec<Transcript>)>, sqlx::Error> {
        let batch: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT batch FROM epochs WHERE epoch = ? AND logged = 1")
                .bind(epoch.get() as i64)
                .fetch_optional(&self.0)
                .await?;
        let Some(batch) = batch else { return Ok(None) };
        let answered = |(attestation, signature): (Hash, Option<_>)| {
            Some(Transcript { attestation, signature: signature? })
        };
        Ok(Some((batch, self.answers(epoch).await?.into_iter().filter_map(answered).collect())))
    }

    async fn answers(
        &self,
        epoch: UnixSeconds,
    ) -> Result<BTreeMap<Hash, Option<[u8; SIGNATURE_LEN]>>, sqlx::Error> {
        let rows = sqlx::query("SELECT attestation, signature FROM challenges WHERE epoch = ?")
            .bind(epoch.get() as i64)
            .fetch_all(&self.0)
            .await?;
        let answer = |row: SqliteRow| {
            let (leaf, signature): (Vec<u8>, Option<Vec<u8>>) =
                (row.try_get("attestation")?, row.try_get("signature")?);
            let leaf = Hash::try_from(leaf.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((leaf, signature.and_then(|signature| signature.try_into().ok())))
        };
        rows.into_iter().map(answer).collect()
    }
}

fn epoch(row: &SqliteRow) -> Result<UnixSeconds, sqlx::Error> {
    Ok(UnixSeconds::new(row.try_get::<i64, _>("epoch")? as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_epoch_survives_a_restart_and_ends_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coordinator.db");
        let first = Store::open(&file).await.unwrap();
        let (one, two) = (Hash::of(b"1"), Hash::of(b"2"));
        let open = OpenEpoch {
            epoch: 600.into(),
            seconds: 300,
            beacon: b"note".to_vec(),
            answers: [(one, None), (two, None)].into(),
        };
        first.open_epoch(&open).await.unwrap();
        assert!(first.open_epoch(&open).await.is_err(), "challenges go out once");
        let answer = Transcript { attestation: one, signature: [1; SIGNATURE_LEN] };
        first.answer(600.into(), &answer).await.unwrap();
        let late = Transcript { signature: [2; SIGNATURE_LEN], ..answer.clone() };
        first.answer(600.into(), &late).await.unwrap();
        first.close().await;

        let again = Store::open(&file).await.unwrap();
        let [left] = again.open_epochs().await.unwrap().try_into().unwrap();
        assert_eq!(left.answers, [(one, Some(answer.signature)), (two, None)].into());
        assert_eq!(again.last_epoch_ends().await.unwrap(), Some(900.into()));
        again.close_epoch(600.into(), b"batch", std::slice::from_ref(&answer)).await.unwrap();
        again.close_epoch(600.into(), b"another", std::slice::from_ref(&answer)).await.unwrap();
        again.answer(600.into(), &Transcript { attestation: two, signature: [3; 64] }).await.unwrap();
        assert_eq!(again.challenges(600.into()).await.unwrap(), None, "not before it is logged");
        assert_eq!(again.unlogged_batches().await.unwrap(), [(600.into(), b"batch".to_vec())]);
        again.batch_logged(600.into()).await.unwrap();
        assert_eq!(again.unlogged_batches().await.unwrap(), []);
        assert_eq!(again.challenges(600.into()).await.unwrap(), Some((b"batch".to_vec(), vec![answer])));
        assert_eq!(again.open_epochs().await.unwrap(), []);
    }
}
