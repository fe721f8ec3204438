// What it costs to import the package, above a bare `node`; and the published @alienplatform/core@1.4.0 beside it.
//
//   node benches/import.mjs [RUNS]

import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { median, root, spread } from "./support.mjs"

const runs = Number(process.argv[2] ?? 15)
const peer = join(root, "target", "benches", "peer")

/** Milliseconds and MiB of a program that prints `[ms, rss]`; the process is new each time. */
function measure(cwd, program) {
  const { stdout, status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { cwd, encoding: "utf8" })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

const program = (body) => `
  const start = performance.now()
  ${body}
  console.log(JSON.stringify([performance.now() - start, process.memoryUsage().rss / 1048576]))`
const use = (name) => program(`const alien = await import(${JSON.stringify(name)})`)
// With the addon loaded, which importing alone leaves for the first build.
const build = program(`
  const alien = await import("@alienplatform/core")
  new alien.Daemon("d").code({ type: "image", image: "i" }).permissions("p").build()`)

if (!existsSync(join(peer, "node_modules"))) {
  mkdirSync(peer, { recursive: true })
  writeFileSync(join(peer, "package.json"), "{}")
  spawnSync("npm", ["install", "--no-audit", "--no-fund", "@alienplatform/core@1.4.0"], { cwd: peer, stdio: "ignore" })
}

const results = { bare: [], ours: [], built: [], peer: [] }
for (let run = 0; run <= runs; run++) {
  // In turn, so that a machine that slows down slows all of them.
  const round = {
    bare: measure(root, program("")),
    ours: measure(root, use("@alienplatform/core")),
    built: measure(root, build),
    peer: existsSync(join(peer, "node_modules", "@alienplatform")) ? measure(peer, use("@alienplatform/core")) : undefined,
  }
  if (run > 0) Object.entries(round).forEach(([name, result]) => result && results[name].push(result))
}

const bare = { ms: median(results.bare.map(([ms]) => ms)), rss: median(results.bare.map(([, rss]) => rss)) }
const above = (list, index, base) => list.map((result) => result[index] - base)
for (const [name, title] of [["ours", "import"], ["built", "import and first build"], ["peer", "import of the peer, 1.4.0"]]) {
  if (results[name].length === 0) continue
  const [ms, rss] = [above(results[name], 0, bare.ms), above(results[name], 1, bare.rss)]
  console.log(`${title.padEnd(26)} ${spread(ms, 1)} ms, ${spread(rss, 1)} MiB above bare node`)
}
if (results.peer.length > 0) {
  const ratio = (index, base) => median(above(results.peer, index, base)) / median(above(results.built, index, base))
  console.log(`peer / import and first build: ${ratio(0, bare.ms).toFixed(1)} × the time, ${ratio(1, bare.rss).toFixed(1)} × the memory`)
}
