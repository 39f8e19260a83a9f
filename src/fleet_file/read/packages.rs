//! The `packages` and `system_packages` of a `source`.

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::model::package::{PACKAGES_MAX, Package, is_debian_name};
use crate::model::source::Language;

/// Packages of the vessel's language.
pub fn packages(cursor: &Cursor<'_>, language: Language) -> Result<Vec<Package>, FleetFileError> {
    let mut packages = Vec::new();
    for item in items(cursor)? {
        if language == Language::Bash {
            return Err(cursor.invalid_key(
                "`packages` are those of PYTHON and NODE; for BASH name Debian packages in \
                 `system_packages`, or remove it",
            ));
        }
        let (name, version) = name_and_version(&item)?;
        let version_text = match &version {
            Some(version) => Some(version.text()?.to_owned()),
            None => None,
        };
        let package = Package { name: name.text()?.to_owned(), version: version_text };
        if let Some(fault) = package.fault_of_name(language) {
            return Err(name.invalid(fault));
        }
        if let (Some(fault), Some(version)) = (package.fault_of_version(language), &version) {
            return Err(version.invalid(fault));
        }
        packages.push(package);
    }
    Ok(packages)
}

/// Names of Debian packages.
pub fn system_packages(cursor: &Cursor<'_>) -> Result<Vec<String>, FleetFileError> {
    let mut names = Vec::new();
    for item in items(cursor)? {
        let (name, version) = name_and_version(&item)?;
        if let Some(version) = version {
            let message = "the version of a system package is apt's to choose; remove it";
            return Err(version.invalid_key(message));
        }
        if !is_debian_name(name.text()?) {
            return Err(name.invalid("expected the name of a Debian package, such as jq"));
        }
        names.push(name.text()?.to_owned());
    }
    Ok(names)
}

fn items<'a>(cursor: &Cursor<'a>) -> Result<Vec<Cursor<'a>>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let items = cursor.sequence()?;
    if items.len() > PACKAGES_MAX {
        let message = format!("more than {PACKAGES_MAX}; name those that the code itself uses");
        return Err(cursor.invalid(message));
    }
    Ok(items)
}

/// The name of an item, and its version unless that is empty.
fn name_and_version<'a>(
    item: &Cursor<'a>,
) -> Result<(Cursor<'a>, Option<Cursor<'a>>), FleetFileError> {
    let fields = item.fields(&["name", "version"])?;
    let name = fields.get("name").ok_or_else(|| item.missing("name", "missing"))?.clone();
    let version = fields.get("version").filter(|it| !it.is_null());
    let version = version.filter(|it| !it.text().is_ok_and(str::is_empty)).cloned();
    Ok((name, version))
}
