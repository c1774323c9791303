//! Reports: what the cache did in a period. Everything that can be asked of `larder report` can be asked here.

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, ZonedDateTime};

use super::Shared;
use super::browsers::STILL_PAGE;
use super::door::Who;
use super::history::{query_text, refused};
use super::payload::Reached;
use super::problem::{Kind, Problem};
use crate::report::{self, Asked, Format, Report, ReportError};

/// `GET /v1/reports/{kind}?from=&to=&whole=&zone=&namespace=&format=`.
///
/// # Errors
/// See [`Problem`].
pub async fn show(
    State(app): State<Shared>,
    who: Who,
    Path(kind): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    _: Reached,
) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default();
    let value = |name: &str| query_text(query, name);
    let kind = report::Kind::from_name(&kind).ok_or_else(|| bad("there are hourly, daily, weekly and monthly reports"))?;
    let format = match value("format")? {
        None => accepted(&headers),
        Some(name) => Format::from_name(&name).ok_or_else(|| bad("\"format\" is text, json, csv, html or md"))?,
    };
    let whole = match value("whole")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(bad("\"whole\" is true or false")),
    };
    let asked = Asked { kind: Some(kind), from: value("from")?, to: value("to")?, whole };
    let zone = report::zone(Some(value("zone")?.as_deref().unwrap_or("UTC"))).map_err(|error| bad(&error.to_string()))?;
    let namespace = value("namespace")?;
    let history = app.history.clone();
    let history = history.ok_or_else(|| Problem::new(Kind::NoHistory, "this server keeps none; history.enabled says so"))?;
    let now: ZonedDateTime = Timestamp::now().to_zoned_datetime(zone);
    let made = tokio::task::spawn_blocking(move || report::of_history(&history, &asked, &now, namespace.as_deref()));
    let mut report = made.await.map_err(|_| Problem::new(Kind::Internal, "the report could not be made"))?.map_err(problem)?;
    report.shown_to(|key| who.may_read(key), who.reads_all());
    answer(&report, format)
}

fn answer(report: &Report, format: Format) -> Result<Response, Problem> {
    let text = report.render(format).map_err(|_| Problem::new(Kind::Internal, "the report could not be written"))?;
    let mut response = ([(CONTENT_TYPE, format.media()), (VARY, "accept")], text).into_response();
    if format == Format::Html {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, STILL_PAGE);
    }
    Ok(response)
}

fn problem(error: ReportError) -> Problem {
    match error {
        ReportError::Period(error) => bad(&error.to_string()),
        ReportError::History(error) => refused(&error),
    }
}

/// The first form that the client says it takes; JSON where it names none of them.
fn accepted(headers: &HeaderMap) -> Format {
    let named = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let media = named.map(|range| range.split(';').next().unwrap_or_default().trim());
    let format = |media: &str| match media {
        "text/html" => Some(Format::Html),
        "text/plain" => Some(Format::Text),
        "text/csv" => Some(Format::Csv),
        "text/markdown" => Some(Format::Md),
        "application/json" => Some(Format::Json),
        _ => None,
    };
    media.filter_map(format).next().unwrap_or(Format::Json)
}

fn bad(detail: &str) -> Problem {
    Problem::new(Kind::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_known_is_taken() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            accepted(&headers)
        };
        assert_eq!(of("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Html);
        assert_eq!(of("text/csv;q=1"), Format::Csv);
        assert_eq!(of("image/png"), Format::Json);
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}
