// A deploy with nothing to change, as a whole process: `alien deploy` beside `docker-compose up -d`, each with one daemon that
// is up and as it should be.
//
//   node benches/unchanged.mjs [RUNS]        needs docker.io, docker-compose and skopeo for the peer, and root

import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { closeWorkspace, docker, median, root, run, spread, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const space = await workspace()
const env = { ...process.env, ALIEN_STATE_DIR: space.stateDir, XDG_CACHE_HOME: join(space.dir, "cache") }
writeFileSync(join(space.dir, "alien.ts"), `
  import { Daemon, Stack } from "@alienplatform/core"
  const daemon = new Daemon("clock").code({ type: "image", image: ${JSON.stringify(space.image)} }).permissions("none").build()
  export default new Stack("bench").add(daemon, "live").build()`)
const alien = (...words) => run(process.execPath, [join(root, "js/cli.js"), ...words], { cwd: space.dir, env })
const engine = await docker(space)
const hasCompose = engine !== undefined && spawnSync("docker-compose", ["version"]).status === 0
if (hasCompose) {
  const image = engine.load(space.image)
  writeFileSync(join(space.dir, "docker-compose.yml"), `version: "3"\nservices:\n  clock:\n    image: ${image}\n    network_mode: host\n`)
}
const compose = (...words) => run("docker-compose", words, { cwd: space.dir, env: { ...process.env, DOCKER_HOST: engine.host } })

const all = { "alien deploy": () => alien("deploy") }
if (hasCompose) all["docker-compose up -d"] = () => compose("up", "-d")
// Node itself, which every process of the first pays for.
all["node -e 0"] = () => run(process.execPath, ["-e", "0"])
const times = Object.fromEntries(Object.keys(all).map((name) => [name, []]))
for (let round = 0; round <= runs; round++) {
  for (const [name, once] of Object.entries(all)) {
    const start = performance.now()
    once()
    if (round > 0) times[name].push(performance.now() - start)
  }
}
alien("destroy")
if (hasCompose) compose("down", "-t", "0")
await engine?.stop()
console.log("nothing to change, whole process (goal: at most 150 ms)")
for (const [name, taken] of Object.entries(times)) console.log(`${name.padEnd(20)} ${spread(taken, 0)} ms, ${(median(taken) / median(times["alien deploy"])).toFixed(2)} ×`)
closeWorkspace(space)
