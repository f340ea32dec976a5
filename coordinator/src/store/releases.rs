//! The oldest checkpoint kept with each release, from which its cool-off counts.

use glassbloom_spec::hash::Hash;
use sqlx::Row;

use super::Store;

impl Store {
    /// Keeps a release's proof unless there is an older one.
    pub(crate) async fn keep_release_proof(
        &self,
        release: Hash,
        checkpoint: &[u8],
        proof: &[Hash],
    ) -> Result<(), sqlx::Error> {
        let proof: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
        sqlx::query(
            "INSERT INTO release_proofs (release, checkpoint, proof) VALUES (?, ?, ?) \
             ON CONFLICT (release) DO NOTHING",
        )
        .bind(release.as_bytes().as_slice())
        .bind(checkpoint)
        .bind(proof)
        .execute(&self.0)
        .await?;
        Ok(())
    }

    /// The checkpoint kept with a release, and the hashes of the inclusion proof under it.
    pub(crate) async fn release_proof(
        &self,
        release: Hash,
    ) -> Result<Option<(Vec<u8>, Vec<Hash>)>, sqlx::Error> {
        let row = sqlx::query("SELECT checkpoint, proof FROM release_proofs WHERE release = ?")
            .bind(release.as_bytes().as_slice())
            .fetch_optional(&self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let proof: Vec<u8> = row.try_get("proof")?;
        let proof = proof.as_chunks().0.iter().map(|hash| Hash::from_bytes(*hash)).collect();
        Ok(Some((row.try_get("checkpoint")?, proof)))
    }
}
