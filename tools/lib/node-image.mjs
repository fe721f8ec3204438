// An image with Node in it, made from the Node that runs this: its binary and the libraries that it has loaded.

import { existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, statSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Layout } from "./oci.mjs"

/** Folders on the way to the paths, outermost first, each once. */
function folders(paths) {
  const all = new Set()
  for (const path of paths) {
    const parts = dirname(path).split("/").filter(Boolean)
    parts.forEach((_, index) => all.add(parts.slice(0, index + 1).join("/")))
  }
  return [...all].map((path) => ({ path: `${path}/`, type: "dir" }))
}

/** Everything that this Node needs to run: `[{path, from}]`, paths without the leading slash. */
function nodeFiles() {
  // The dynamic linker is among them, under the path that the binary names.
  const libraries = process.report.getReport().sharedObjects.filter((path) => path.startsWith("/"))
  const files = libraries.map((path) => ({ path: path.slice(1), from: realpathSync(path), mode: 0o755 }))
  return [...files, { path: "usr/bin/node", from: process.execPath, mode: 0o755 }]
}

const root = join(dirname(fileURLToPath(import.meta.url)), "../..")

/** What a program in an image needs of this package to take commands: no native code, and nothing else. */
export function receiverFiles() {
  const inside = "app/node_modules/@alienplatform/core"
  const names = readdirSync(join(root, "js/commands")).filter((name) => /\.(js|mjs|json)$/.test(name))
  const files = ["package.json", ...names.map((name) => `js/commands/${name}`)]
  return files.map((file) => ({ path: `${inside}/${file}`, from: join(root, file), mode: 0o644 }))
}

/**
 * Makes (or finds) an image that runs `program`, a JavaScript file, and returns its layout's folder.
 *
 * @param {string} dir the layout's folder; kept between runs
 * @param {{tag: string, program: string, files?: import("./oci.mjs").Entry[], config?: object}} image `files` are laid
 *   beside the program, paths with every folder on the way to them
 */
export async function nodeImage(dir, { tag, program, files: more = [], config = {} }) {
  const source = readFileSync(program)
  // Made again when Node, the program or the wish changes.
  const beside = more.map((entry) => (entry.from ? [entry, statSync(entry.from).mtimeMs] : entry))
  const key = JSON.stringify([process.version, process.execPath, statSync(process.execPath).mtimeMs, tag, config, source.toString(), beside])
  const mark = join(dir, ".made-of")
  if (existsSync(mark) && readFileSync(mark, "utf8") === key) return dir
  mkdirSync(dir, { recursive: true })
  const layout = new Layout(dir)
  const files = nodeFiles()
  // Not compressed: it goes over loopback, and compressing would take longer than everything else together.
  const base = await layout.layer([...folders(files.map(({ path }) => path)), ...files], { compression: "none" })
  const inApp = [
    { path: "app/", type: "dir" },
    { path: "app/main.js", data: source },
    { path: "etc/", type: "dir" },
    { path: "etc/passwd", data: "root:x:0:0:root:/root:/bin/false\n" },
    { path: "root/", type: "dir", mode: 0o700 },
    ...folders(more.map(({ path }) => path)),
    ...more,
  ]
  // Docker takes no layer that names a folder twice.
  const isFirst = ({ path, type }, index) => type !== "dir" || inApp.findIndex((one) => one.path === path) === index
  const app = await layout.layer(inApp.filter(isFirst))
  layout.image(tag, [base, app], { Entrypoint: ["/usr/bin/node", "/app/main.js"], WorkingDir: "/app", Env: ["PATH=/usr/bin"], ...config })
  writeFileSync(mark, key)
  return dir
}
