// How fast a daemon can print: bytes that its program gets rid of in a second while all of them are logged, with time and
// stream before every line; beside Docker's json-file and runit's svlogd, with files of the same size and number.
//
//   node benches/logs.mjs [MEGABYTES]        needs docker.io, skopeo and runit for the peers, and root

import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, docker, isThere, median, program, spread, until, workspace } from "./support.mjs"

const megabytes = Number(process.argv[2] ?? 1000)
const FLOOD = String(megabytes * 1e6)
const ROUNDS = 5
const space = await workspace("flood")
const LINE = /(\d{12}) -+$/

/** MB/s from the program's own words, which are its last. */
const rate = (text) => (megabytes * 1e9) / Number(text.match(/took (\d+)/)[1])

/** Whether the lines that are kept follow each other up to the last one. */
function assertWhole(texts, of) {
  const numbers = texts.flatMap((text) => text.match(LINE)?.[1] ?? []).map(Number)
  const last = Math.floor((megabytes * 1e6) / 64_000) * 640
  const gap = numbers.findIndex((number, index) => number !== last - numbers.length + 1 + index)
  if (numbers.length === 0 || gap >= 0) throw new Error(`${of}: lines are lost: ${numbers.length} kept, ${numbers[gap]} at ${gap}`)
  return numbers.length
}

async function ours() {
  const daemon = new Daemon("flood").code({ type: "image", image: space.image }).permissions("none").environment({ FLOOD }).build()
  const deployment = await deploy(new Stack("logs").add(daemon, "live").build(), { platform: "local", local: { stateDir: space.stateDir } })
  const [{ line }] = await until(async () => {
    const lines = []
    for await (const line of deployment.logs("flood", { tail: 1 })) lines.push(line)
    return lines.length > 0 && lines[0].line.startsWith("took") && lines
  })
  const kept = []
  for await (const { line } of deployment.logs("flood")) kept.push(line)
  assertWhole(kept, "alien")
  await deployment.destroy()
  return rate(line)
}

async function svlogd() {
  const dir = join(space.dir, "svlogd")
  mkdirSync(dir, { recursive: true })
  // Ten million bytes, five files with the current one: as ours.
  writeFileSync(join(dir, "config"), "s10485760\nn4\n")
  const logger = spawn("svlogd", ["-ttt", dir], { stdio: ["pipe", "ignore", "inherit"] })
  const flood = spawn(program("flood"), [], { stdio: ["ignore", logger.stdin, "inherit"], env: { FLOOD } })
  logger.stdin.destroy()
  const text = await until(() => spawnSync("tail", ["-n1", join(dir, "current")], { encoding: "utf8" }).stdout.match(/took \d+/)?.[0])
  flood.kill("SIGKILL")
  await new Promise((resolve) => logger.once("close", resolve))
  return rate(text)
}

async function jsonFile(engine, image) {
  const name = `flood-${process.hrtime.bigint()}`
  engine.cli(["run", "-d", "--network=none", "--name", name, "-e", `FLOOD=${FLOOD}`, "--log-opt", "max-size=10m", "--log-opt", "max-file=5", image])
  const text = await until(() => engine.cli(["logs", "--tail", "1", name]).match(/took \d+/)?.[0], 300)
  engine.cli(["rm", "-f", name])
  return rate(text)
}

/** What the disk's own files take, written alike: the limit of all of them. */
function disk() {
  const file = join(space.dir, "plain")
  const { stderr } = spawnSync("dd", ["if=/dev/zero", `of=${file}`, "bs=64k", `count=${Math.floor((megabytes * 1e6) / 65536)}`], { encoding: "utf8", env: { LC_ALL: "C" } })
  spawnSync("rm", [file])
  const [, bytes, seconds] = stderr.match(/(\d+) bytes .*, ([\d.e-]+) s,/)
  return Number(bytes) / Number(seconds) / 1e6
}

const engine = await docker(space)
const image = engine?.load(space.image)
const hasRunit = isThere("svlogd")
const rates = { alien: [], disk: [], svlogd: [], docker: [] }
for (let round = 0; round < ROUNDS; round++) {
  rates.alien.push(await ours())
  rates.disk.push(disk())
  if (hasRunit) rates.svlogd.push(await svlogd())
  if (engine && round < 2) rates.docker.push(await jsonFile(engine, image))
}
await engine?.stop()
console.log(`one daemon that prints ${megabytes} MB in lines of 100 bytes, no line lost (goal: at least 500 MB/s, or the disk's)`)
for (const [name, all] of Object.entries(rates)) {
  if (all.length > 0) console.log(`${name.padEnd(8)} ${spread(all, 0)} MB/s${name === "alien" ? "" : `, ${(median(rates.alien) / median(all)).toFixed(1)} ×`}`)
}
closeWorkspace(space)
