// Packs what is published: the main package, and the one with the native half for each platform.
//
//   node tools/pack.mjs FOLDER      writes the tarballs there and prints their paths
//
// The main package names its platform packages as optional dependencies only here, when it is packed: in a checkout the
// addon is built, and `npm ci` must not look for a package of the same version that is not published yet.

import { spawnSync } from "node:child_process"
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")

function fail(message) {
  console.error(message)
  process.exit(1)
}

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"))

/** Packs a folder; returns the tarball's path. */
function pack(folder, out) {
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", out]
  const { status, stdout, stderr } = spawnSync("npm", args, { cwd: folder, encoding: "utf8" })
  if (status !== 0) fail(`npm pack failed in ${folder}:\n${stderr}`)
  // A list in older versions of npm, an object by name in newer ones.
  const [packed] = Object.values(JSON.parse(stdout))
  return join(out, packed.filename)
}

const [out] = process.argv.slice(2)
if (out === undefined) fail("usage: node tools/pack.mjs FOLDER")
mkdirSync(out, { recursive: true })

const stage = mkdtempSync(join(tmpdir(), "alien-pack-"))
try {
  const manifest = readJson(join(root, "package.json"))
  const platforms = readdirSync(join(root, "npm"))
  manifest.optionalDependencies = {}
  for (const platform of platforms) {
    const own = readJson(join(root, "npm", platform, "package.json"))
    if (own.version !== manifest.version) fail(`${own.name} is ${own.version}, but ${manifest.name} is ${manifest.version}.`)
    manifest.optionalDependencies[own.name] = manifest.version
    const folder = join(stage, platform)
    cpSync(join(root, "npm", platform), folder, { recursive: true })
    for (const file of own.files) {
      if (!existsSync(join(root, file))) fail(`${file} is missing: run npm run build first.`)
      copyFileSync(join(root, file), join(folder, file))
      chmodSync(join(folder, file), 0o755)
    }
    copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"))
    console.log(pack(folder, resolve(out)))
  }
  const main = join(stage, "main")
  for (const file of ["index.js", "index.mjs", "index.d.ts", "index.d.mts", "js", "LICENSE", "README.md"]) {
    if (existsSync(join(root, file))) cpSync(join(root, file), join(main, file), { recursive: true })
  }
  // What serves the checkout only.
  delete manifest.scripts
  delete manifest.devDependencies
  writeFileSync(join(main, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`)
  console.log(pack(main, resolve(out)))
} finally {
  rmSync(stage, { recursive: true, force: true })
}
