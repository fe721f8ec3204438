//! The manager's image, made of the package's own program: whoever has the package needs nothing else.

use crate::error::Report;
use crate::image::{self, Made, Program};
use crate::model::ImageReference;
use serde_json::{Value, json};
use std::path::Path;

/// The user and group that it runs under: nobody.
pub const USER: u32 = 65532;
/// Where it keeps what it keeps.
pub const DATA: &str = "/data";

/// Where the image is to go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Whether that is a registry; else it is a layout.
    pub push: bool,
    pub reference: String,
}

/// Makes the image, and puts it where it is wanted. Gives `{image, digest}`: a reference by which it can be had there.
///
/// # Errors
/// `INVALID_IMAGE`, `MANAGER_MISSING`; `IMAGE_NOT_PUSHED`, `REGISTRY_UNREACHABLE` and what a disk says.
pub async fn make(to: &Destination, program: &Path, options: image::Options) -> Result<Value, Report> {
    let invalid = |why: String| Report::new("INVALID_IMAGE", why).status(400);
    let reference = ImageReference::parse(&to.reference);
    let reference = reference.map_err(|why| invalid(format!("{:?} is no image: {why}", to.reference)))?;
    match &reference {
        ImageReference::Registry(_) if !to.push => {
            let why = format!("{:?} is a registry's", to.reference);
            return Err(invalid(why).hint("give oci:DIR or oci-archive:FILE; `alien manager image push REF` pushes"));
        }
        ImageReference::Registry(registry) if registry.digest.is_some() => {
            let why = format!("{:?} names a digest, which the image itself decides", to.reference);
            return Err(invalid(why).hint("give REGISTRY/REPOSITORY:TAG"));
        }
        ImageReference::Registry(_) => {}
        _ if to.push => {
            let why = format!("{:?} is no registry's", to.reference);
            return Err(invalid(why).hint("give REGISTRY/REPOSITORY:TAG, or --output oci-archive:FILE"));
        }
        _ => {}
    }
    if !program.exists() {
        let message = format!("the package has no {}", program.display());
        let hint = "install the package again; in a checkout: npm run build";
        return Err(Report::new("MANAGER_MISSING", message).hint(hint));
    }
    let program = program.to_owned();
    let making = tokio::task::spawn_blocking(move || {
        let labels = [
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
            ("org.opencontainers.image.title", "alien-manager"),
            ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
        ];
        Made::new(&Program { file: &program, name: "alien-manager", folders: &[DATA], user: USER, labels: &labels })
    });
    let made = making.await.map_err(|error| Report::new("INTERNAL_ERROR", error.to_string()))??;
    let digest = made.digest();
    let image = match &reference {
        ImageReference::Registry(registry) => {
            made.push(registry, &options).await?;
            format!("{registry}@{digest}")
        }
        layout => {
            made.write(layout)?;
            layout.to_string()
        }
    };
    Ok(json!({ "image": image, "digest": digest }))
}
