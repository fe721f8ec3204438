// All tests: what they need is installed and built first. Rust's and Jest's run side by side; the last line counts both.
//
//   node tools/test.mjs             everything
//   node tools/test.mjs --jest      Jest alone, of what is built already; further words are Jest's

import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

import { missing as cannotCluster } from "./lib/cluster.mjs"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const words = process.argv.slice(2)
const jestAlone = words[0] === "--jest"
const scratch = mkdtempSync(join(tmpdir(), "alien-tests-"))
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }))

function prepare(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" })
  if (error?.code === "ENOENT") console.error(`${command} is missing. Rust: https://rustup.rs; Node with npm: https://nodejs.org.`)
  if (status !== 0) process.exit(status ?? 1)
}

/** Runs a command, keeps what it prints and shows it when it is done: two at once would be unreadable. */
function run(title, command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data))
    child.on("close", (code) => {
      console.log(`\n── ${title}\n${output}`)
      resolve({ code, output })
    })
  })
}

/** Adds up cargo's `test result: ok. 3 passed; 0 failed; 1 ignored` lines. */
function countRust(output) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const [, passed, failed, ignored] of output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
    counts.passed += Number(passed)
    counts.failed += Number(failed)
    counts.skipped += Number(ignored)
  }
  return counts
}

async function rust() {
  const { code, output } = await run("Rust", "cargo", ["test", "--release", "--no-fail-fast"])
  const counts = countRust(output)
  // A suite that does not even run has no line of its own.
  if (code !== 0 && counts.failed === 0) counts.failed = 1
  return counts
}

async function jest() {
  const more = jestAlone ? words.slice(1) : []
  const first = await runJest("Jest", more)
  if (first.failedFiles.length === 0 || process.env.CI !== "true") return first.counts
  // On a shared machine a deadline may pass because of its neighbours: what failed runs once more, whole files with
  // nothing beside them. What fails again has failed; what does not was printed above, and wants to be looked at.
  const options = more.filter((word) => word.startsWith("--"))
  const again = await runJest(`Jest again, alone: ${first.failedFiles.join(" ")}`, [...options, "--runInBand", "--runTestsByPath", ...first.failedFiles])
  if (again.counts.failed > 0) return first.counts
  return { ...first.counts, passed: first.counts.passed + first.counts.failed, failed: 0 }
}

/** One run of Jest: its counts, and the files with failures. */
async function runJest(title, words) {
  const results = join(scratch, `${title.length}.json`)
  const args = ["node_modules/jest/bin/jest.js", "--ci", "--json", "--outputFile", results, ...words]
  const { code } = await run(title, process.execPath, args)
  if (!existsSync(results)) return { counts: { passed: 0, failed: 1, skipped: 0 }, failedFiles: [] }
  const { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites, testResults } = JSON.parse(readFileSync(results, "utf8"))
  const failed = numFailedTests + numRuntimeErrorTestSuites
  return {
    counts: { passed: numPassedTests, failed: code !== 0 && failed === 0 ? 1 : failed, skipped: numPendingTests },
    failedFiles: testResults.filter(({ status }) => status === "failed").map(({ name }) => name),
  }
}

if (!jestAlone) {
  if (!existsSync(join(root, "node_modules", "jest"))) prepare("npm", ["install", "--no-audit", "--no-fund"])
  prepare(process.execPath, ["tools/build.mjs"])
  prepare("cargo", ["test", "--release", "--no-run", "--quiet"])
  if (cannotCluster() === undefined) prepare(process.execPath, ["tools/cluster.mjs", "build"])
}
const counts = await Promise.all(jestAlone ? [jest()] : [rust(), jest()])
const sum = (key) => counts.reduce((total, count) => total + count[key], 0)
console.log(`${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`)
process.exit(sum("failed") === 0 ? 0 : 1)
