// What declaring costs: one daemon built and validated, and a stack of 1,000 built, validated, preflighted and planned.
//
//   node benches/model.mjs

import { performance } from "node:perf_hooks"
import { Daemon, Stack, deploy, plan } from "../index.js"
import { closeWorkspace, spread, workspace } from "./support.mjs"

const space = await workspace()
const local = { stateDir: space.stateDir }

const daemon = (id) =>
  new Daemon(id).code({ type: "image", image: space.image }).environment({ LOG_LEVEL: "info" }).permissions("execution").build()

const each = []
for (let round = 0; round < 20; round++) {
  const start = performance.now()
  for (let index = 0; index < 1000; index++) daemon(`d${index}`)
  each.push(performance.now() - start)
}
console.log(`a daemon built and validated: ${spread(each)} µs (goal: at most 10)`)

// Once, so that the image is in the store as it is for every deploy but the first.
const warm = await deploy(new Stack("warm").add(daemon("warm"), "live").build(), { platform: "local", local })
await warm.destroy()
const whole = []
for (let round = 0; round < 20; round++) {
  const start = performance.now()
  const stack = new Stack("many")
  for (let index = 0; index < 1000; index++) stack.add(daemon(`d${index}`), "live")
  const { changes } = await plan(stack.platforms(["local"]).build(), { platform: "local", local })
  whole.push(performance.now() - start)
  if (changes.length !== 1000) throw new Error("the plan is not whole")
}
console.log(`1,000 daemons built, validated, preflighted and planned: ${spread(whole)} ms (goal: at most 25)`)
await closeWorkspace(space)
