//! Amounts of CPU and memory, in Kubernetes' own notation.
//!
//! Grammar: `<digits>[.<digits>][suffix]`, suffix one of `n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`, or a decimal
//! exponent `e3`/`E3` (Kubernetes, `apimachinery/pkg/api/resource`, "Quantity").

use super::check::{At, Issues, field, quote};
use super::raw::Raw;
use serde::{Serialize, Serializer};

/// An amount, as it was written and as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    /// The value times 10⁹, rounded up: no notation in use says less.
    nanos: u128,
}

/// What a daemon asks for: `min` is requested, `desired` is what it may use (memory: its limit; CPU: its weight).
///
/// JSON: `{"min":"100m","desired":"1"}`; `min` is never more than `desired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bounds {
    pub min: Quantity,
    pub desired: Quantity,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Cores; a number is cores too.
    Cpu,
    /// Bytes; a number is bytes too.
    Memory,
}

const NANO: u128 = 1_000_000_000;
const MEBI: u128 = 1 << 20;
/// No machine has more cores, so more is a slip (`cpu("128Mi")`).
const MOST_CORES: u128 = 10_000;
/// Kubernetes keeps quantities in 64 signed bits.
const MOST_BYTES: u128 = i64::MAX as u128;

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// A sentence without the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
            return Err("is not a Kubernetes quantity".to_owned());
        }
        let (times, over) = factor(suffix).ok_or_else(|| {
            let near =
                near_suffix(suffix).map_or_else(String::new, |near| format!("; did you mean \"{number}{near}\"?"));
            format!("is not a Kubernetes quantity{near}")
        })?;
        let too_large = || "is too large".to_owned();
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| too_large())?;
        let numerator = digits.checked_mul(times).and_then(|n| n.checked_mul(NANO)).ok_or_else(too_large)?;
        let denominator = 10u128.pow(fraction.len() as u32).checked_mul(over).ok_or_else(too_large)?;
        Ok(Quantity { text: text.to_owned(), nanos: numerator.div_ceil(denominator) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// CPU: thousandths of a core, rounded up as Kubernetes does.
    pub fn millis(&self) -> u64 {
        saturating(self.nanos.div_ceil(NANO / 1000))
    }

    /// Memory: bytes, rounded up as Kubernetes does.
    pub fn bytes(&self) -> u64 {
        saturating(self.nanos.div_ceil(NANO))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Bounds {
    /// Checks `n`, `"100m"` or `{min, desired}`.
    pub(super) fn check(raw: &Raw, unit: Unit, at: &At, issues: &mut Issues) -> Option<Bounds> {
        let Raw::Object(fields) = raw else {
            let one = amount(raw, unit, at, issues)?;
            return Some(Bounds { min: one.clone(), desired: one });
        };
        issues.known_keys(at, fields, &["min", "desired"]);
        let mut part = |key: &'static str| match field(fields, key) {
            Some(raw) => amount(raw, unit, &at.key(key), issues),
            None => {
                issues.missing(&at.key(key));
                None
            }
        };
        let (min, desired) = (part("min"), part("desired"));
        let (min, desired) = (min?, desired?);
        if min.nanos > desired.nanos {
            let message = format!("min ({}) is more than desired ({})", min.text, desired.text);
            issues.add(&at.key("min"), "too_big", message);
            return None;
        }
        Some(Bounds { min, desired })
    }
}

fn amount(raw: &Raw, unit: Unit, at: &At, issues: &mut Issues) -> Option<Quantity> {
    let (quantity, shown) = match raw {
        Raw::Number(number) if *number < 0.0 => {
            issues.add(at, "too_small", format!("expected at least {}, received {number}", unit.least()));
            return None;
        }
        Raw::Number(number) => (unit.of_number(*number), number.to_string()),
        Raw::String(text) => (Quantity::parse(text), quote(text)),
        other => {
            let expected = unit.forms();
            issues.add(at, "invalid_union", format!("expected {expected}, received {}", other.kind()));
            return None;
        }
    };
    let quantity = match quantity {
        Ok(quantity) => quantity,
        Err(why) => {
            issues.add(at, "invalid_value", format!("{shown} {why}")).hint = Some(unit.hint().to_owned());
            return None;
        }
    };
    let (least, most) = match unit {
        Unit::Cpu => (NANO / 1000, MOST_CORES * NANO),
        Unit::Memory => (MEBI * NANO, MOST_BYTES * NANO),
    };
    if quantity.nanos < least {
        // 128 or "128m" where 128Mi was meant.
        let digits = quantity.text.strip_suffix('m').unwrap_or(&quantity.text);
        let meant = unit == Unit::Memory && digits != "0" && digits.bytes().all(|b| b.is_ascii_digit());
        let near = if meant { format!("; did you mean \"{digits}Mi\"?") } else { String::new() };
        issues.add(at, "too_small", format!("expected at least {}, received {shown}{near}", unit.least()));
        return None;
    }
    if quantity.nanos > most {
        issues.add(at, "too_big", format!("expected at most {}, received {shown}", unit.most()));
        return None;
    }
    Some(quantity)
}

impl Unit {
    fn of_number(self, number: f64) -> Result<Quantity, String> {
        match self {
            // 0.1 + 0.2 is meant as 0.3: what the binary fraction adds is no wish of the user's.
            Unit::Cpu => {
                let millis = (number * 1000.0 - 1e-6).ceil().max(0.0) as u128;
                let text = format!("{}.{:03}", millis / 1000, millis % 1000);
                let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
                Ok(Quantity { text, nanos: millis * (NANO / 1000) })
            }
            Unit::Memory if number.fract() != 0.0 => Err("is not a whole number of bytes".to_owned()),
            Unit::Memory => Ok(Quantity { text: format!("{number:.0}"), nanos: (number as u128).saturating_mul(NANO) }),
        }
    }

    fn least(self) -> &'static str {
        match self {
            Unit::Cpu => "1m (a thousandth of a core)",
            Unit::Memory => "1Mi (1048576 bytes)",
        }
    }

    fn most(self) -> &'static str {
        match self {
            Unit::Cpu => "10000 cores",
            Unit::Memory => "9223372036854775807 bytes",
        }
    }

    fn forms(self) -> &'static str {
        match self {
            Unit::Cpu => "a number of cores, a quantity such as \"500m\" or {min, desired}",
            Unit::Memory => "a number of bytes, a quantity such as \"128Mi\" or {min, desired}",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Unit::Cpu => "write cores as 0.5, \"0.5\" or \"500m\"",
            Unit::Memory => "write bytes as \"128Mi\" (1024-based) or \"128M\" (1000-based)",
        }
    }
}

/// What a suffix multiplies by, as (numerator, denominator).
fn factor(suffix: &str) -> Option<(u128, u128)> {
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let (sign, digits) = match exponent.as_bytes()[0] {
            b'-' => (-1, &exponent[1..]),
            b'+' => (1, &exponent[1..]),
            _ => (1, exponent),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return (suffix == "Ei").then_some((1 << 60, 1));
        }
        let power = 10u128.checked_pow(digits.parse::<u32>().ok().filter(|power| *power <= 18)?)?;
        return Some(if sign < 0 { (1, power) } else { (power, 1) });
    }
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (NANO * 1_000, 1),
        "P" => (NANO * 1_000_000, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (MEBI, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => return None,
    })
}

/// The notation that someone who wrote `128MB` or `1gb` has in mind.
fn near_suffix(suffix: &str) -> Option<&'static str> {
    Some(match suffix.trim().to_ascii_lowercase().as_str() {
        "ki" | "kib" => "Ki",
        "mi" | "mib" => "Mi",
        "gi" | "gib" => "Gi",
        "ti" | "tib" => "Ti",
        "k" | "kb" => "k",
        "mb" => "M",
        "g" | "gb" => "G",
        "t" | "tb" => "T",
        _ => return None,
    })
}

fn saturating(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(raw: Raw, unit: Unit) -> Result<Bounds, String> {
        let mut issues = Issues::default();
        let bounds = Bounds::check(&raw, unit, &At::ROOT, &mut issues);
        bounds.ok_or_else(|| issues.0.remove(0).message)
    }

    fn text(text: &str) -> Raw {
        Raw::String(text.to_owned())
    }

    #[test]
    fn every_notation_has_its_value() {
        for (written, millis) in [("0.1", 100), ("100m", 100), ("2", 2_000), (".5", 500), ("1e1", 10_000), ("1u", 1)] {
            assert_eq!(Quantity::parse(written).unwrap().millis(), millis, "{written}");
        }
        for (written, bytes) in [
            ("128Mi", 128 << 20),
            ("1.5Gi", 3 << 29),
            ("1k", 1_000),
            ("1E", 10u64.pow(18)),
            ("1Ei", 1 << 60),
            ("5e-1", 1),
        ] {
            assert_eq!(Quantity::parse(written).unwrap().bytes(), bytes, "{written}");
        }
        assert_eq!(Quantity::parse("99999999999999E").unwrap_err(), "is too large");
    }

    #[test]
    fn numbers_are_cores_and_bytes() {
        let text_of = |raw, unit| checked(raw, unit).unwrap().desired.as_str().to_owned();
        assert_eq!(text_of(Raw::Number(0.1 + 0.2), Unit::Cpu), "0.3");
        assert_eq!(text_of(Raw::Number(2.0), Unit::Cpu), "2");
        assert_eq!(text_of(Raw::Number(0.0005), Unit::Cpu), "0.001");
        assert_eq!(text_of(Raw::Number(134_217_728.0), Unit::Memory), "134217728");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let bounds =
            |min: &str, desired: &str| Raw::Object(vec![("min".into(), text(min)), ("desired".into(), text(desired))]);
        for (raw, unit, message) in [
            (text("fast"), Unit::Cpu, "\"fast\" is not a Kubernetes quantity"),
            (text("1.2.3"), Unit::Cpu, "\"1.2.3\" is not a Kubernetes quantity"),
            (Raw::Number(0.0), Unit::Cpu, "expected at least 1m (a thousandth of a core), received 0"),
            (Raw::Number(-1.0), Unit::Cpu, "expected at least 1m (a thousandth of a core), received -1"),
            (text("128Mi"), Unit::Cpu, "expected at most 10000 cores, received \"128Mi\""),
            (
                Raw::Bool(true),
                Unit::Cpu,
                "expected a number of cores, a quantity such as \"500m\" or {min, desired}, received boolean",
            ),
            (text("128MB"), Unit::Memory, "\"128MB\" is not a Kubernetes quantity; did you mean \"128M\"?"),
            (text("1gb"), Unit::Memory, "\"1gb\" is not a Kubernetes quantity; did you mean \"1G\"?"),
            (
                text("128m"),
                Unit::Memory,
                "expected at least 1Mi (1048576 bytes), received \"128m\"; did you mean \"128Mi\"?",
            ),
            (
                Raw::Number(128.0),
                Unit::Memory,
                "expected at least 1Mi (1048576 bytes), received 128; did you mean \"128Mi\"?",
            ),
            (Raw::Number(2e6 + 0.5), Unit::Memory, "2000000.5 is not a whole number of bytes"),
            (text("8Ei"), Unit::Memory, "expected at most 9223372036854775807 bytes, received \"8Ei\""),
            (bounds("2", "1"), Unit::Cpu, "min (2) is more than desired (1)"),
            (Raw::Object(vec![("min".into(), text("1"))]), Unit::Cpu, "required, but not given"),
        ] {
            assert_eq!(checked(raw, unit).unwrap_err(), message);
        }
    }
}
