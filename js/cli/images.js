"use strict"

// `alien images` and `alien prune`: what is kept on this machine for its daemons.

const { engineOptions } = require("./options.js")
const { line, padded, size } = require("./table.js")
const engine = require("../engine.js")

const shortDigest = (digest) => digest.replace("sha256:", "").slice(0, 12)

/** `deployment/daemon` of all, or nothing. */
const users = ({ usedBy }) => usedBy.map(({ deployment, daemon }) => `${deployment}/${daemon}`).join(", ") || "-"

async function images({ options, signal }) {
  const list = await engine.images(engineOptions(options, signal))
  if (options.json) {
    console.log(JSON.stringify(list))
    return 0
  }
  const rows = list.images.flatMap((image) => {
    const names = image.references.length === 0 ? ["(no name)"] : image.references
    return names.map((name, index) => [name, shortDigest(image.digest), index === 0 ? size(image.bytes) : "", index === 0 ? users(image) : ""])
  })
  if (rows.length > 0) for (const row of padded([["IMAGE", "DIGEST", "SIZE", "USED BY"], ...rows])) console.log(line(row))
  console.error(`${list.images.length} ${list.images.length === 1 ? "image" : "images"}, ${size(list.totalBytes)}; layers that images share are counted once.`)
  return 0
}

async function prune({ options, signal }) {
  const dryRun = options["dry-run"] === true
  const report = await engine.prune({ ...engineOptions(options, signal), dryRun })
  if (options.json) {
    console.log(JSON.stringify(report))
    return 0
  }
  for (const image of report.images) console.log(`${dryRun ? "would remove" : "removed"} ${image.references.join(", ") || "(no name)"} (${shortDigest(image.digest)})`)
  const more = [
    [report.layers, "layer", "layers"],
    [report.tops, "top of a former version", "tops of former versions"],
    [report.helpers, "program of another version", "programs of other versions"],
  ]
  const parts = more.filter(([count]) => count > 0).map(([count, one, many]) => `${count} ${count === 1 ? one : many}`)
  const what = parts.length === 0 ? "" : `: ${parts.join(", ")}`
  console.error(`${dryRun ? "Would free" : "Freed"} ${size(report.freedBytes)}${what}.`)
  return 0
}

module.exports = { images, prune }
