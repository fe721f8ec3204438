// How long a daemon is away while it is updated: from the old program's last instruction to the new one's first. The old
// one ends at once when it is asked to, so that none of the gap is its own. `docker` has no update: it is stopped, removed
// and run again, as `docker compose up` does it.
//
//   node benches/update-gap.mjs [RUNS]

import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Daemon, Stack, Storage, deploy } from "../index.js"
import { program, closeWorkspace, spread, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const space = await workspace()
const gap = await space.layout.layer([{ path: "gap", from: program("gap"), mode: 0o755 }], { compression: "none" })
const images = ["a", "b"].map((tag) => {
  space.layout.image(tag, [gap], { Entrypoint: ["/gap", "/run/alien/seen/last"], Labels: { version: tag } })
  return space.image.replace(/:v1$/, `:${tag}`)
})
const last = () => BigInt(readFileSync(join(space.stateDir, "data/gap/seen/last"), "utf8"))

/** The daemon in its n-th version. */
function stack(image, number) {
  const storage = new Storage("seen").build()
  const daemon = new Daemon("d").code({ type: "image", image }).environment({ VERSION: String(number) }).permissions("none").link(storage).build()
  return new Stack("gap").add(storage, "live").add(daemon, "live").build()
}

/** The first line that was printed since, in nanoseconds. */
async function began(deployment, since) {
  for await (const { line } of deployment.logs("d", { follow: true, signal: AbortSignal.timeout(10_000) })) {
    if (/^\d{19}$/.test(line) && BigInt(line) > since) return BigInt(line)
  }
}

const options = { platform: "local", local: { stateDir: space.stateDir } }
let deployment = await deploy(stack(images[0], 0), options)
for (const [what, image] of [["of its environment", () => images[0]], ["of its image", (run) => images[(run + 1) % 2]]]) {
  const gaps = []
  for (let run = 0; run < runs; run++) {
    // It has overwritten nothing yet that it wrote before it was asked to end: a reader has the old one's last word until then.
    const words = []
    const reader = setInterval(() => words.push(last()), 1)
    deployment = await deploy(stack(image(run), `${what} ${run}`), options)
    clearInterval(reader)
    const start = await began(deployment, words[0])
    const before = words.filter((word) => word < start).at(-1)
    gaps.push(Number(start - before) / 1e6)
  }
  console.log(`away during an update ${what}: ${spread(gaps)} ms (goal: at most 20)`)
}
await deployment.destroy({ data: true })
await closeWorkspace(space)
