//! Fields of statements.

use leptos::prelude::*;

use super::text::{HashText, When};
use crate::{
    describe::{Datum, Field, hex},
    route::Route,
};

/// A list of fields, each explained.
#[component]
pub fn FieldList(
    /// The fields.
    fields: Vec<Field>,
) -> impl IntoView {
    let row = |field: Field| {
        view! {
            <div class="field">
                <dt>{field.name}</dt>
                <dd><DatumView datum=field.value/><p class="note">{field.note}</p></dd>
            </div>
        }
    };
    view! { <dl class="fields">{fields.into_iter().map(row).collect_view()}</dl> }
}

/// One value.
#[component]
pub fn DatumView(
    /// The value.
    datum: Datum,
) -> AnyView {
    match datum {
        Datum::Bytes(bytes) => view! { <HashText text=hex(&bytes)/> }.into_any(),
        Datum::Digest(digest) => view! { <HashText text=digest.to_string()/> }.into_any(),
        Datum::List(items) if items.is_empty() => view! { <span class="quiet">"none"</span> }.into_any(),
        Datum::List(items) => {
            let items = items.into_iter().map(|item| view! { <li><DatumView datum=item/></li> }).collect_view();
            view! { <ul class="plain">{items}</ul> }.into_any()
        }
        Datum::Reference(leaf, None) => {
            view! { <HashText text=leaf.to_string()/><span class="quiet">"not in the registry read here"</span> }.into_any()
        }
        Datum::Reference(leaf, Some(route)) => {
            let label = match route {
                Route::Entry(log, index) => format!("{log} #{index}"),
                _ => "provider".to_owned(),
            };
            view! { <a href=route.to_string()>{label}</a>" "<HashText text=leaf.to_string() short=true/> }.into_any()
        }
        Datum::Text(text) => view! { <span>{text}</span> }.into_any(),
        Datum::Time(time) => view! { <When time=time/> }.into_any(),
    }
}
