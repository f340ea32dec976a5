//! The end of an answer: check the receipt, log it, book it.

use glassbloom_spec::{
    api::UsageOpening,
    leaf::{Payload, Price},
    pedersen::Opening,
    receipt::{Receipt, charge},
    statement::Statement,
};

use crate::{
    app::App,
    error::ApiError,
    logs::Appended,
    session::{Admitted, Order},
    store::Usage,
    view::View,
};

/// Logs a receipt and returns its `tlog-proof` or, when the log is late, its promise of one.
///
/// Either is the acknowledgement: once it is out, the log holds the receipt, whatever becomes of this process. The
/// books come second, because a receipt without a booking costs the operator a little, and the reverse would charge
/// for what nobody can prove.
pub(crate) async fn settle(
    app: &App,
    provider: &Admitted,
    order: &Order,
    receipt: &[u8],
    usage: &UsageOpening,
) -> Result<Appended, ApiError> {
    app.refresh().await;
    let (statement, receipt) = check(app, provider, receipt)?;
    let (index, appended) = app.receipts.append(&statement).await.map_err(|error| {
        tracing::error!(%error, "a receipt was not logged");
        ApiError::LogLate(error.to_string())
    })?;
    app.metrics.receipt();
    let tokens_and_charge = billed(app, &receipt, usage);
    if tokens_and_charge.is_none() {
        tracing::warn!(%index, provider = provider.name, "a receipt that cannot be billed: the opening does not fit it");
    }
    let booked = Usage {
        receipt_index: index.get(),
        request_id: &order.request_id,
        account: order.account,
        model: &order.model,
        attestation: provider.attestation,
        tokens_and_charge,
        sealed_by: order.sealed_by.name(),
        started: order.started,
        ended: app.clock.now(),
    };
    if let Err(error) = app.store.book(&booked).await {
        tracing::error!(%error, %index, "a request could not be booked");
    }
    Ok(appended)
}

/// Whether it is a receipt that counts: what does not is the provider's fault, and does not enter the log.
///
/// The registry that it relies on is not compared: a client that was shown another one holds evidence, and the log
/// must not be kept from it.
fn check(app: &App, provider: &Admitted, receipt: &[u8]) -> Result<(Statement, Receipt), ApiError> {
    let bad = |message: String| ApiError::Provider { code: "bad_receipt".to_owned(), message };
    let statement = Statement::parse(receipt).map_err(|error| bad(error.to_string()))?;
    let receipt = Receipt::of(&statement).map_err(|error| bad(error.to_string()))?;
    statement.verify(&provider.signing_key).map_err(|error| bad(error.to_string()))?;
    let view = app.registry.view();
    let holds =
        |holds: bool, what: &str| if holds { Ok(()) } else { Err(bad(format!("the receipt {what}"))) };
    holds(receipt.attestation == provider.attestation, "names another attestation")?;
    holds(view.revoked(provider.key_id).is_none(), "is by a revoked key")?;
    holds(view.has_rules(&receipt.policy), "names a policy that was never in force")?;
    let price =
        price(&view, &receipt).ok_or_else(|| bad("the receipt names no known model and price".to_owned()))?;
    holds(receipt.charge_matches(price), "charges something else than the logged price")?;
    Ok((statement, receipt))
}

fn price<'a>(view: &'a View, receipt: &Receipt) -> Option<&'a Price> {
    view.prices(&receipt.prices)?.price(&view.model_leaf(&receipt.model)?.alias)
}

/// Tokens and charge, if the opening fits the receipt.
fn billed(app: &App, receipt: &Receipt, usage: &UsageOpening) -> Option<(u64, u64, u64)> {
    let [prompt, completion] = &usage.blindings;
    let prompt = Opening::from_parts(usage.prompt, *prompt.as_bytes()).ok()?;
    let completion = Opening::from_parts(usage.completion, *completion.as_bytes()).ok()?;
    let opens = [prompt.commitment(), completion.commitment()] == receipt.usage;
    let charge = charge(&[prompt, completion], price(&app.registry.view(), receipt)?).ok()?;
    opens.then_some((usage.prompt, usage.completion, charge.value()))
}
