// Images of the tests' own program (tests/programs/daemon.rs): one static file, so an image is made in milliseconds.

import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Layout } from "./oci.mjs"

const root = join(dirname(fileURLToPath(import.meta.url)), "../..")

/** A program's path; compiled when its source is newer. Safe to call from several processes at once. */
export function testProgram(name = "daemon") {
  const source = join(root, `tests/programs/${name}.rs`)
  const program = join(root, `target/test-programs/${name}`)
  if (existsSync(program) && statSync(program).mtimeMs >= statSync(source).mtimeMs) return program
  mkdirSync(dirname(program), { recursive: true })
  // A folder of its own: rustc puts its intermediate files beside the result, under names that depend on the source only.
  const folder = mkdtempSync(`${program}-`)
  const aside = join(folder, name)
  const flags = ["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "panic=abort", "-C", "strip=symbols"]
  const { status, stderr, error } = spawnSync("rustc", [...flags, "-o", aside, source], { encoding: "utf8" })
  if (error || status !== 0) throw new Error(`${source} cannot be compiled: ${error?.message ?? stderr}`)
  renameSync(aside, program)
  rmSync(folder, { recursive: true })
  return program
}

/** Files that every test image has; the program is `/bin/daemon`. */
export const baseFiles = () => [
  { path: "bin/", type: "dir" },
  { path: "bin/daemon", from: testProgram(), mode: 0o755 },
  { path: "etc/", type: "dir" },
  { path: "etc/passwd", data: "root:x:0:0:root:/root:/bin/false\napp:x:1000:1001:App:/home/app:/bin/false\n" },
  { path: "etc/group", data: "root:x:0:\napp:x:1001:\naudio:x:29:app\n" },
  { path: "etc/image", data: "from the image\n" },
  { path: "root/", type: "dir", mode: 0o700 },
]

/**
 * Makes an image and returns `oci:DIR:TAG`.
 *
 * @param {string} dir the layout's folder, made where it is missing; other images in it go
 * @param {{tag?: string, config?: object, files?: import("./oci.mjs").Entry[], base?: boolean, platform?: object,
 *   edit?: (layers: object[], layout: Layout) => object[]}} [image] `config` is laid over `Entrypoint: ["/bin/daemon"]`
 */
export async function testImage(dir, { tag = "1", config = {}, files = [], base = true, platform, compression = "none", edit = (layers) => layers } = {}) {
  const layout = new Layout(dir)
  const layers = base ? [await layout.layer(baseFiles(), { compression })] : []
  if (files.length > 0) layers.push(await layout.layer(files, { compression }))
  layout.image(tag, edit(layers, layout), { Entrypoint: ["/bin/daemon"], Env: ["FROM_IMAGE=yes", "PATH=/bin"], ...config }, platform)
  return `oci:${dir}:${tag}`
}
