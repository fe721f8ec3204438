// How long from the call of deploy() to the program's first instruction, the image being cached; `docker run` and `podman run`
// of the same image beside it, without a network of its own as ours is.
//
//   node benches/first-instruction.mjs [RUNS]        needs docker.io, podman and skopeo for the peers, and root

import { spawnSync } from "node:child_process"
import { performance } from "node:perf_hooks"
import { deploy, Daemon, Stack } from "../index.js"
import { closeWorkspace, docker, median, podman, spread, until, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const space = await workspace()
const options = { platform: "local", local: { stateDir: space.stateDir } }
const now = () => performance.timeOrigin + performance.now()
const milliseconds = (line) => Number(BigInt(line.trim()) / 1000n) / 1000

async function ours() {
  const daemon = new Daemon("clock").code({ type: "image", image: space.image }).permissions("none").build()
  const stack = new Stack("bench").add(daemon, "live").build()
  const start = now()
  const deployment = await deploy(stack, options)
  for await (const { line } of deployment.logs("clock", { follow: true, signal: AbortSignal.timeout(10_000) })) {
    await deployment.destroy()
    return milliseconds(line) - start
  }
}

/** A client of an engine, which writes the first line of the program's log. */
const run = (engine, image) => async () => {
  const name = `bench-${process.hrtime.bigint()}`
  const start = now()
  engine.cli(["run", "-d", ...engine.quirks, "--network", "host", "--name", name, image])
  const line = await until(() => spawnSync(engine.command[0], [...engine.command.slice(1), "logs", name], { encoding: "utf8" }).stdout)
  engine.cli(["rm", "-f", name])
  return milliseconds(line) - start
}

const peers = { "deploy()": ours }
const [dockerEngine, podmanEngine] = [await docker(space), podman(space)]
if (dockerEngine) peers["docker run -d"] = run(dockerEngine, dockerEngine.load(space.image))
if (podmanEngine) peers["podman run -d"] = run(podmanEngine, podmanEngine.load(space.image))

const times = Object.fromEntries(Object.keys(peers).map((name) => [name, []]))
for (let round = 0; round <= runs; round++) {
  for (const [name, once] of Object.entries(peers)) {
    const time = await once()
    // The first one fetches the image, and finds out what the machine allows.
    if (round > 0) times[name].push(time)
  }
}
await dockerEngine?.stop()
podmanEngine?.stop()
console.log("to the first instruction, cached image (goal: at most 10 ms, at least 15 × quicker than docker run)")
const own = median(times["deploy()"])
for (const [name, all] of Object.entries(times)) console.log(`${name.padEnd(14)} ${spread(all)} ms${name === "deploy()" ? "" : `, ${(median(all) / own).toFixed(1)} ×`}`)
closeWorkspace(space)
