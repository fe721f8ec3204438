// Fails when an npm package that is shipped with this one has a licence that does not go with Apache-2.0. Works offline,
// from the lock file; for crates there is deny.toml.

import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const ALLOWED = ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"]

const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"))
// What is only for development is not shipped.
const shipped = Object.entries(packages).filter(([path, { dev }]) => path !== "" && !dev)
const refused = shipped.filter(([, { license }]) => !ALLOWED.includes(license))
refused.forEach(([path, { license }]) => console.error(`${path}: licence ${license ?? "unknown"}`))
process.exit(refused.length === 0 ? 0 : 1)
