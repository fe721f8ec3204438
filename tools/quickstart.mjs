// The quick start: everything from a fresh clone to a daemon that runs, takes a command, is killed, comes back and is gone
// again.
// Needs Node 20 and Rust; no container engine, no registry, no root.

import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const example = join(root, "examples", "quickstart")

function step(text) {
  console.log(`\n── ${text}`)
}

function prepare(what, command, args) {
  console.log(`   ${what}`)
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" })
  if (error || status !== 0) {
    console.error(`\nThat failed${error ? `: ${error.message}` : ""}. What it printed above says why.`)
    process.exit(1)
  }
}

step("Build")
if (!existsSync(join(root, "node_modules", "jiti"))) prepare("npm packages", "npm", ["install", "--no-audit", "--no-fund"])
prepare("the addon and its helper (the first time this takes some minutes)", process.execPath, ["tools/build.mjs"])

const { nodeImage, receiverFiles } = await import("./lib/node-image.mjs")
const { serve } = await import("./lib/registry.mjs")
const { connect } = await import("../index.js")

step("Make an image: this machine's Node, the libraries it needs, and examples/quickstart/connector.js")
const layout = await nodeImage(join(root, "target", "quickstart-image"), {
  tag: "2026-05-17",
  program: join(example, "connector.js"),
  files: receiverFiles(),
})
const registry = await serve({ "acme/connector": layout })
console.log(`   served at ${registry.url}, standing in for ghcr.io`)

const stateDir = mkdtempSync(join(tmpdir(), "alien-quickstart-"))
// Only what a shell needs, and where things are: what else is set here is nobody's business.
const env = { PATH: process.env.PATH, HOME: process.env.HOME, ALIEN_STATE_DIR: stateDir, ALIEN_REGISTRY_MIRRORS: `ghcr.io=${registry.url}` }
if (process.stderr.isTTY && process.env.TERM) env.TERM = process.env.TERM

/** Runs the `alien` command in the example's folder, as a user would, and shows it. */
async function alien(...args) {
  console.log(`\n$ npx alien ${args.join(" ")}`)
  const child = spawn(process.execPath, [join(root, "js", "cli.js"), ...args], { cwd: example, env, stdio: "inherit" })
  const code = await new Promise((resolve) => child.on("exit", resolve))
  if (code !== 0) throw new Error(`alien ${args[0]} ended with exit code ${code}`)
}

/** Waits until the daemon has printed a line that matches, `count` times in all. */
async function printed(deployment, pattern, count) {
  const signal = AbortSignal.timeout(15_000)
  let seen = 0
  for await (const { line } of deployment.logs("connector", { follow: true, signal })) {
    if (pattern.test(line) && ++seen === count) return
  }
}

let destroyed = false
try {
  step("Deploy examples/quickstart/alien.ts to this machine")
  console.log(`   ALIEN_STATE_DIR=${stateDir}\n   ALIEN_REGISTRY_MIRRORS=${env.ALIEN_REGISTRY_MIRRORS}`)
  await alien("deploy")

  step("How is it, and what did it print?")
  await alien("status")
  await alien("logs", "connector", "--tail", "4")

  step("Call a command of it: a manager runs beside it, and no port was opened in the daemon")
  await alien("commands", "invoke", "connector", "sync", "--params", '{"since":"2026-05-01"}')

  step("Kill it with -9: its supervisor starts it again")
  const deployment = await connect({ platform: "local", name: "edge", local: { stateDir } })
  const before = (await deployment.status()).resources[0]
  console.log(`\n$ kill -9 ${before.pid}`)
  process.kill(before.pid, "SIGKILL")
  await printed(deployment, /^connector .* started/, 2)
  await alien("status")
  const after = (await deployment.status()).resources[0]
  if (after.restarts !== before.restarts + 1 || after.pid === before.pid) throw new Error("it did not come back")
  await alien("commands", "invoke", "connector", "sync", "--params", '{"since":"2026-05-02"}')

  step("Deploy again: nothing has changed, so nothing is done")
  await alien("deploy")

  step("Destroy it")
  await alien("destroy")
  destroyed = true

  step("Nothing is left")
  const running = spawnSync("ps", ["-eo", "pid,args"], { encoding: "utf8" }).stdout ?? ""
  const left = running.split("\n").filter((line) => line.includes(stateDir) && !line.includes("defunct"))
  const deployments = existsSync(join(stateDir, "deployments")) ? readdirSync(join(stateDir, "deployments")) : []
  console.log(`   processes: ${left.length}, deployments: ${deployments.length}; the image stays in the store for the next deploy`)
  if (left.length + deployments.length > 0) throw new Error(`left behind:\n${[...left, ...deployments].join("\n")}`)
  console.log("\nThat was all of it. Next: README.md, then an alien.ts of your own.")
} catch (error) {
  console.error(`\nThe quick start failed: ${error.stack ?? error}`)
  process.exitCode = 1
} finally {
  if (!destroyed) spawnSync(process.execPath, [join(root, "js", "cli.js"), "destroy"], { cwd: example, env, stdio: "inherit" })
  await registry.close()
  rmSync(stateDir, { recursive: true, force: true })
}
