// A user's Jest test: deploys the stack before all tests and destroys it after them.
// ALIEN_REGISTRY_MIRRORS=ghcr.io=http://127.0.0.1:5000 lets the image come from a registry of the test's own.
const { mkdtempSync, rmSync } = require("node:fs")
const { tmpdir } = require("node:os")
const { join } = require("node:path")
const alien = require("@alienplatform/core")

// A test shares nothing with what is deployed on this machine.
const stateDir = mkdtempSync(join(tmpdir(), "greetings-"))
const greeter = new alien.Daemon("greeter")
  .code({ type: "image", image: "ghcr.io/acme/greeter:1" })
  .environment({ GREETING: "good morning" })
  .permissions("execution")
  .build()
const stack = new alien.Stack("greetings").add(greeter, "live").build()

let deployment
beforeAll(async () => {
  deployment = await alien.deploy(stack, { local: { stateDir } })
}, 60_000)
afterAll(async () => {
  await deployment?.destroy({ data: true })
  rmSync(stateDir, { recursive: true, force: true })
})

/** Follows the log until a line has come so many times. */
async function printed(text, times = 1) {
  for await (const { line } of deployment.logs("greeter", { follow: true, signal: AbortSignal.timeout(10_000) })) {
    if (line === text && --times === 0) return
  }
}

test("it greets", async () => {
  await printed("good morning from greetings")
})

test("killed, it comes back", async () => {
  const [{ pid }] = (await deployment.status()).resources
  process.kill(pid, "SIGKILL")
  await printed("good morning from greetings", 2)
  expect((await deployment.status()).resources[0]).toMatchObject({ restarts: 1, lastExit: { signal: "SIGKILL" } })
})
