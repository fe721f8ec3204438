"use strict"

// Images of Debian's own packages, as Debian has them: each package, with all that it depends on, is a layer.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { cacheDir } = require("../../tools/lib/cache.cjs")
const { has, tool } = require("./bed.js")

/** Why no such images can be made here; undefined where they can. */
function missing() {
  const absent = ["apt-get", "dpkg-deb"].find((program) => !has(program))
  if (absent !== undefined) return `${absent} is not installed: this is no Debian`
  return fs.readdirSync("/var/lib/apt/lists").some((name) => /_Packages(\.|$)/.test(name)) ? undefined : "apt has no lists (apt-get update)"
}

/** The archives of packages and of all that they depend on, downloaded where they are not here yet. */
function archives(names) {
  const cache = path.join(cacheDir(), "debian")
  fs.mkdirSync(path.join(cache, "archives/partial"), { recursive: true })
  fs.mkdirSync(path.join(cache, "none/partial"), { recursive: true })
  // As on a machine that has nothing yet.
  const apt = (folder, ...more) => {
    const options = ["Dir::State::status=/dev/null", `Dir::Cache=${cache}`, `Dir::Cache::archives=${path.join(cache, folder)}`, "APT::Install-Recommends=false", "Debug::NoLocking=1", "APT::Sandbox::User="]
    return execFileSync("apt-get", ["-qq", ...options.flatMap((option) => ["-o", option]), ...more, "install", "--yes", ...names], { encoding: "utf8" })
  }
  const files = [...apt("none", "--print-uris").matchAll(/^'[^']+' (\S+\.deb) /gm)].map(([, name]) => path.join(cache, "archives", name))
  if (!files.every((file) => fs.existsSync(file))) apt("archives", "--download-only")
  return files
}

/**
 * An image of packages; gives `oci:DIR:TAG`.
 *
 * @param {ReturnType<typeof import("./bed.js").testBed>} bed
 * @param {string} tag
 * @param {string[]} packages
 * @param {{config: object, files: object[]}} its configuration, and a last layer
 */
async function debianImage(bed, tag, packages, { config, files }) {
  const { Layout } = await tool("oci.mjs")
  const dir = path.join(bed.folder, `debian-${tag}`)
  const layout = new Layout(dir)
  const aside = path.join(bed.folder, "package.tar")
  const layers = archives(packages).map((archive) => {
    const out = fs.openSync(aside, "w")
    execFileSync("dpkg-deb", ["--fsys-tarfile", archive], { stdio: ["ignore", out, "inherit"] })
    fs.closeSync(out)
    return layout.tarLayer(aside)
  })
  fs.rmSync(aside, { force: true })
  // What the packages' own scripts would do, as far as it is needed.
  const made = [
    { path: "run/", type: "dir" },
    { path: "var/", type: "dir" },
    { path: "var/run", type: "symlink", target: "/run" },
    { path: "tmp/", type: "dir", mode: 0o1777 },
    { path: "etc/passwd", data: "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nredis:x:101:101::/var/lib/redis:/bin/false\npostgres:x:102:102::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" },
    { path: "etc/group", data: "root:x:0:\nwww-data:x:33:\nredis:x:101:\npostgres:x:102:\nnogroup:x:65534:\n" },
  ]
  layers.push(await layout.layer([...made, ...files], { compression: "gzip" }))
  layout.image(tag, layers, { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], ...config })
  return `oci:${dir}:${tag}`
}

module.exports = { debianImage, missing }
