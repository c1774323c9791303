//! The buckets of a report for a spreadsheet, as RFC 4180 has it: the period before first, so that time goes down.

use std::fmt::{Error, Write};

use super::Report;

/// The report.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut text =
        String::from("period,at,recorded,requests,hits,hit_rate,mean_seconds,p50_seconds,p99_seconds,loads,errors,invalidated,bytes\r\n");
    for (period, points) in [("before", &report.series_before), ("now", &report.series)] {
        for point in points {
            // No field can hold a comma or a quote: they are numbers and moments.
            write!(text, "{period},{},{},{},{}", point.at, point.recorded, point.requests, point.hits)?;
            for value in [point.hit_rate, point.mean_seconds, point.p50_seconds, point.p99_seconds] {
                text.push(',');
                if let Some(value) = value {
                    write!(text, "{value}")?;
                }
            }
            write!(text, ",{},{},{},{}\r\n", point.loads, point.errors, point.invalidated, point.bytes)?;
        }
    }
    Ok(text)
}
