// The private memory of what stays resident: scanner, supervisor and init, per process, with one daemon and with ten.
//
//   node benches/footprint.mjs

import { spawnSync } from "node:child_process"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, privateMemory, spread, workspace } from "./support.mjs"

const space = await workspace()

/** The tree of this state directory: `{scanner, supervisors, inits}` as pids. */
function tree() {
  const { stdout } = spawnSync("ps", ["-eo", "pid=,ppid=,args="], { encoding: "utf8" })
  const rows = stdout.split("\n").filter((line) => line.includes("alien-supervisor") && line.includes(space.stateDir))
  const all = rows.map((line) => line.trim().split(/\s+/)).map(([pid, ppid, , verb]) => ({ pid, ppid, verb }))
  const scanner = all.filter(({ verb }) => verb === "scan").map(({ pid }) => pid)
  const running = all.filter(({ verb }) => verb === "run")
  const isInit = ({ ppid }) => running.some(({ pid }) => pid === ppid)
  return { scanner, supervisors: running.filter((row) => !isInit(row)).map(({ pid }) => pid), inits: running.filter(isInit).map(({ pid }) => pid) }
}

for (const count of [1, 10]) {
  const stack = new Stack("footprint")
  for (let index = 0; index < count; index++) {
    stack.add(new Daemon(`d${index}`).code({ type: "image", image: space.image }).permissions("none").build(), "live")
  }
  const deployment = await deploy(stack.build(), { platform: "local", local: { stateDir: space.stateDir } })
  const { scanner, supervisors, inits } = tree()
  const kib = (pids) => spread(pids.map(privateMemory), 0)
  console.log(`${count} daemon(s): supervisor ${kib(supervisors)} KiB (goal: at most 256), init ${kib(inits)} KiB, scanner ${kib(scanner)} KiB`)
  await deployment.destroy()
}
await closeWorkspace(space)
