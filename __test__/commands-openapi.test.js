"use strict"

// The manager's description of its calls, held against the manager by schemathesis: what it says they take is taken, and
// whatever is sent, what comes back is what it says.

const { spawn } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { needs } = require("./lib/bed.js")
const { ADMIN, inline, managerBed, success } = require("./lib/wire.js")
const { program } = require("../tools/schemathesis.cjs")

const missing = fs.existsSync(program) ? undefined : "schemathesis is not installed (node tools/schemathesis.cjs)"

jest.setTimeout(300_000)

const bed = managerBed()
let manager
let description

beforeAll(async () => {
  manager = await bed.start()
  description = await manager.ok(200, "GET", "/openapi.json")
})

test("describes every call that the documents name, in OpenAPI 3.1", () => {
  expect(description).toMatchObject({ openapi: expect.stringMatching(/^3\.1\./), components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } } })
  const calls = Object.entries(description.paths).flatMap(([route, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${route}`))
  expect(calls).toEqual(expect.arrayContaining([
    "POST /v1/commands", "GET /v1/commands", "GET /v1/commands/{id}", "POST /v1/commands/{id}/cancel", "PUT /v1/commands/{id}/response",
    "PUT /v1/commands/{id}/payload", "GET /v1/commands/{id}/payload", "POST /v1/commands/{id}/upload-complete",
    "POST /v1/commands/leases", "POST /v1/commands/leases/{id}/renew", "POST /v1/commands/leases/{id}/release",
    "POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/tokens", "DELETE /v1/tokens/{id}", "GET /metrics", "GET /healthz", "GET /readyz",
  ]))
})

needs(missing).test("is what the manager does", async () => {
  const its = await manager.deployment("edge", "worker")
  // Something of each kind to find.
  for (let n = 0; n < 20; n++) await its.submit("go", { params: inline(n) })
  const [lease] = await its.worker.lease()
  await manager.ok(200, "PUT", lease.envelope.responseHandling.submitResponseUrl, { body: success(1) })
  const args = ["run", `${manager.url}/openapi.json`, "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--seed", "1", "--no-color"]
  const env = { ...process.env, SCHEMATHESIS_HOOKS: path.join(__dirname, "lib/schemathesis.py"), ADMIN_TOKEN: ADMIN, RECEIVER_TOKEN: its.worker.token, PYTHONDONTWRITEBYTECODE: "1" }
  const child = spawn(program, args, { cwd: bed.folder, env, stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text))
  const code = await new Promise((resolve) => child.once("close", resolve))
  expect([code, said]).toEqual([0, expect.any(String)])
})
