// How long from the call of deploy() to the program's first instruction, the image being cached; `docker run` of the
// same image beside it where an engine is there.
//
//   node benches/first-instruction.mjs [RUNS]

import { performance } from "node:perf_hooks"
import { deploy, Daemon, Stack } from "../index.js"
import { spawnSync } from "node:child_process"
import { closeWorkspace, median, spread, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const space = await workspace()

/** Milliseconds from `start` (since 1970) to the program's first line. */
async function firstInstruction(deployment, id, start) {
  for await (const { line } of deployment.logs(id, { follow: true, signal: AbortSignal.timeout(10_000) })) {
    return Number(BigInt(line) / 1000n) / 1000 - start
  }
}

const times = []
for (let run = 0; run <= runs; run++) {
  const daemon = new Daemon("clock").code({ type: "image", image: space.image }).permissions("none").build()
  const stack = new Stack("bench").add(daemon, "live").build()
  const start = performance.timeOrigin + performance.now()
  const deployment = await deploy(stack, { platform: "local", local: { stateDir: space.stateDir } })
  const time = await firstInstruction(deployment, "clock", start)
  // The first run fetches the image and finds out what the machine allows.
  if (run > 0) times.push(time)
  await deployment.destroy()
}
console.log(`deploy() to first instruction, cached image: ${spread(times)} ms (goal: at most 20)`)

const docker = []
if (space.dockerImage !== undefined) {
  for (let run = 0; run <= runs; run++) {
    const start = performance.timeOrigin + performance.now()
    const name = `alien-bench-${process.pid}-${run}`
    spawnSync("docker", ["run", "-d", "--name", name, space.dockerImage])
    const { stdout } = spawnSync("docker", ["logs", name], { encoding: "utf8" })
    if (run > 0) docker.push(Number(BigInt(stdout.trim()) / 1000n) / 1000 - start)
    spawnSync("docker", ["rm", "-f", name])
  }
  console.log(`docker run -d to first instruction:          ${spread(docker)} ms`)
  console.log(`ratio of medians, docker / deploy():         ${(median(docker) / median(times)).toFixed(1)}`)
} else {
  console.log("docker: not measured, no engine answers")
}
await closeWorkspace(space)
