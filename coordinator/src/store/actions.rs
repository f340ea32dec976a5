//! Changes by hand, each written down in one transaction with the change itself, until the log has its leaf.

use glassbloom_spec::{
    curve::SigningKey,
    hash::Hash,
    leaf::{OperatorAction, Payload},
    statement::Statement,
};
use sqlx::{Row, Sqlite, SqliteConnection, Transaction};

use super::Store;

/// Who changes something by hand, and why.
#[derive(Clone, Copy)]
pub(crate) struct ByHand<'a> {
    /// Signs the `operator-action` leaf.
    pub(crate) signer: &'a SigningKey,
    /// For people; public.
    pub(crate) reason: &'a str,
}

impl ByHand<'_> {
    /// Writes down a change, which the log gets when the coordinator serves. The words are public; the change is known
    /// by its digest, and holds a hash that nobody can guess, so nobody can tell from the leaf whose account it was.
    pub(super) async fn note(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        what: &str,
        scope: &str,
        change: &str,
    ) -> Result<(), sqlx::Error> {
        let connection: &mut SqliteConnection = tx;
        let action = OperatorAction {
            what: what.to_owned(),
            scope: scope.to_owned(),
            change: Hash::of(change.as_bytes()),
            reason: self.reason.to_owned(),
            approvals: Vec::new(),
        };
        let statement = action.sign(self.signer).map_err(|error| sqlx::Error::Encode(error.into()))?;
        // What is signed can be read: a reason with control characters, or one that is too long, could not be.
        OperatorAction::of(&statement).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query("INSERT INTO operator_actions (statement, change) VALUES (?, ?)")
            .bind(statement.bytes())
            .bind(change.as_bytes())
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Changes by hand that the log has not taken yet, oldest first.
    pub(crate) async fn unlogged_actions(&self) -> Result<Vec<(i64, Statement)>, sqlx::Error> {
        let rows = sqlx::query("SELECT id, statement FROM operator_actions WHERE logged = 0 ORDER BY id")
            .fetch_all(&self.0)
            .await?;
        let action = |row: sqlx::sqlite::SqliteRow| {
            let bytes: Vec<u8> = row.try_get("statement")?;
            let statement = Statement::parse(&bytes).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((row.try_get("id")?, statement))
        };
        rows.into_iter().map(action).collect()
    }

    /// Notes that the log has taken a change by hand.
    pub(crate) async fn action_logged(&self, id: i64) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE operator_actions SET logged = 1 WHERE id = ?").bind(id).execute(&self.0).await?;
        Ok(())
    }
}
