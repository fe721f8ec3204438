// Builds what Node loads (the addon), what outlives it (the helper, and the manager of commands) and, when asked, what
// editors read (index.d.ts).
//
//   node tools/build.mjs            whatever is older than its sources
//   node tools/build.mjs --debug    the addon without optimisation
//   node tools/build.mjs --types    index.d.ts
//   node tools/build.mjs --check    fails when index.d.ts is not what the sources say

import { spawnSync } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const HELPER_TARGET = "x86_64-unknown-linux-gnu"
const { values: flags } = parseArgs({
  options: {
    debug: { type: "boolean", default: false },
    types: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
  },
})
const profile = flags.debug ? "debug" : "release"
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target")
const addon = join(root, "alien.linux-x64-gnu.node")
const helper = join(root, "alien-supervisor")
const manager = join(root, "alien-manager")
const declarations = join(root, "index.d.ts")

/** Ends with words for a person. */
function fail(message) {
  console.error(message)
  process.exit(1)
}

/** The time of the newest file at or below the paths, in ms. */
function newest(...paths) {
  let time = 0
  for (const path of paths) {
    const full = join(root, path)
    if (!existsSync(full)) continue
    const stat = statSync(full)
    const below = stat.isDirectory() ? readdirSync(full).map((name) => join(path, name)) : []
    time = Math.max(time, below.length > 0 ? newest(...below) : stat.mtimeMs)
  }
  return time
}

function isFresh(product, ...sources) {
  return existsSync(product) && statSync(product).mtimeMs >= newest(...sources)
}

function run(command, args, env = {}) {
  const { error, status } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } })
  if (error !== undefined) fail(`${command} could not be started: ${error.message}`)
  if (status !== 0) fail(`${command} ${args.join(" ")} failed`)
}

function needCargo() {
  const { error } = spawnSync("cargo", ["--version"], { stdio: "ignore" })
  if (error?.code === "ENOENT") {
    fail("Building needs Rust 1.89 or newer, and there is no cargo on PATH.\nGet it from https://rustup.rs, or from your system's packages (rustup, or cargo and rustc).")
  }
}

/** The folder of the platform's package: `npm pack` there packs what was built. */
const platform = join(root, "npm", "linux-x64-gnu")

/** A copy that is never seen half written, and does not change a file that some process has mapped. */
function install(from, to) {
  const aside = `${to}.new`
  copyFileSync(from, aside)
  renameSync(aside, to)
}

const RUST = ["src", "Cargo.toml", "Cargo.lock", "build.rs"]

function buildAddon() {
  // The plain cargo build, so that it shares its work with `cargo test --release`.
  const built = join(target, profile, "libalien_core.so")
  // An addon of the other profile has another size.
  if (isFresh(addon, ...RUST) && existsSync(built) && statSync(built).size === statSync(addon).size) return
  needCargo()
  run("cargo", ["build", "--lib", ...(flags.debug ? [] : ["--release"])])
  install(built, addon)
}

/** One static file: it is copied away from here and started in folders that have no libraries. */
function buildStatic(program, profile, features) {
  if (isFresh(program, ...RUST)) return
  needCargo()
  const name = basename(program)
  const args = ["build", "--profile", profile, "--no-default-features", ...features, "--bin", name, "--target", HELPER_TARGET]
  run("cargo", args, { RUSTFLAGS: "-C target-feature=+crt-static" })
  install(join(target, HELPER_TARGET, profile, name), program)
}

/** The shapes of data, out of the Rust sources: napi's macros write them down while the crate is checked. */
async function shapes() {
  needCargo()
  const folder = join(target, "napi")
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  // In the debug profile, because these variables make cargo check the crate anew, and the release build must not pay.
  run("cargo", ["check", "--quiet", "--lib"], {
    NAPI_TYPE_DEF_TMP_FOLDER: folder,
    NAPI_FORCE_BUILD_ALIEN_CORE: String(Date.now()),
  })
  const lines = readFileSync(join(folder, "alien-core"), "utf8").trim().split("\n")
  const found = lines.map((line) => JSON.parse(line)).sort((a, b) => (a.name < b.name ? -1 : 1))
  return found.map(declaration).join("\n\n")
}

/** One shape as TypeScript. `def` holds the fields, a line each, with their own comments. */
function declaration({ kind, name, js_doc: doc, def }) {
  if (kind === "type") return `${doc}export type ${name} = ${def}`
  if (kind !== "interface") fail(`${name} is a ${kind}: mark it #[napi(skip_typescript)] and describe its face in js/types.d.ts.`)
  const fields = def.split("\n").map((line) => `  ${line}`)
  return `${doc}export interface ${name} {\n${fields.join("\n")}\n}`
}

/** The declarations: JavaScript's by hand, then the shapes. */
async function joinTypes() {
  const byHand = readFileSync(join(root, "js", "types.d.ts"), "utf8").replace(/^(\/\/.*\n)+\n/, "")
  const note = "// Made by `npm run build:types` from js/types.d.ts and the documentation below src/node. Do not edit.\n"
  return `${note}\n${byHand.trimEnd()}\n\n${await shapes()}\n`
}

if (process.platform !== "linux" || process.arch !== "x64") {
  fail(`This version builds on Linux x64 only; this is ${process.platform} ${process.arch}.`)
}
if (!existsSync(join(root, "node_modules"))) fail("node_modules is missing: run npm install first.")

if (flags.check) {
  const now = existsSync(declarations) ? readFileSync(declarations, "utf8") : ""
  if (now !== (await joinTypes())) {
    fail("index.d.ts is not what js/types.d.ts and src/node say. Run npm run build:types and commit it.")
  }
} else if (flags.types) {
  writeFileSync(declarations, await joinTypes())
} else {
  buildAddon()
  buildStatic(helper, "helper", [])
  buildStatic(manager, "manager", ["--features", "manager"])
  for (const product of [addon, helper, manager]) {
    const packaged = join(platform, basename(product))
    if (!existsSync(packaged) || statSync(packaged).mtimeMs < statSync(product).mtimeMs) install(product, packaged)
  }
}
