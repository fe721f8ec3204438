"use strict"

// Commands on this machine from a manager that runs elsewhere: nothing of our own is started, tokens are had there.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { authority, missing: noOpenssl } = require("./lib/authority.js")
const { eventually, failure, needs, processesWith, stackOf, testBed, tool } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")

jest.setTimeout(60_000)

/** Daemons that tell where their commands come from, once they are prepared. */
function daemons(bed) {
  let node
  const receiver = (id) => new alien.Daemon(id).code({ type: "image", image: node }).commandsEnabled(true).permissions("p")
  return {
    async prepare() {
      const { nodeImage, receiverFiles } = await tool("node-image.mjs")
      const program = path.join(bed.folder, "handlers.js")
      fs.writeFileSync(program, `
        const { command, runReceiver } = require("@alienplatform/core/commands")
        command("where", () => ({ url: process.env.ALIEN_COMMANDS_URL, id: process.env.ALIEN_DEPLOYMENT_ID }))
        command("authority", () => require("node:fs").readFileSync(process.env.ALIEN_COMMANDS_CA_FILE, "utf8"))
        runReceiver()`)
      node = `oci:${await nodeImage(path.join(bed.folder, "node"), { tag: "1", program, files: receiverFiles() })}:1`
    },
    receiver,
    stack: () => stackOf("far", receiver("one")),
  }
}

needs(missing).describe("a manager elsewhere", () => {
  const bed = testBed()
  const there = testManager()
  const file = (...names) => path.join(bed.stateDir, "manager", ...names)
  const client = () => JSON.parse(fs.readFileSync(file("client.json"), "utf8"))
  const given = (more) => ({ manager: { url: there.url, token: there.admin, deploymentId: "edge-7", ...more } })
  const ours = () => processesWith(`${bed.stateDir}/`).filter(({ command }) => command.includes("alien-manager"))
  const tokens = async () => {
    const { json } = await there.ask("GET", "/v1/tokens")
    return json.tokens.filter(({ role }) => role !== "admin").map(({ role, deploymentId, resourceId }) => [deploymentId, role, resourceId].filter(Boolean).join(" ")).sort()
  }
  const { prepare, receiver, stack } = daemons(bed)

  beforeAll(prepare, 60_000)

  test("gives tokens for what is deployed here, and nothing is started", async () => {
    const deployment = await bed.deploy(stack(), given())
    expect(await deployment.invoke("one", "where")).toEqual({ url: there.url, id: "edge-7" })
    expect(await tokens()).toEqual(["edge-7 invoke", "edge-7 receive one"])
    expect(ours()).toEqual([])
    // Whoever connects later needs to know nothing of it.
    expect(await (await alien.connect(bed.options({ name: "far" }))).invoke("one", "where")).toMatchObject({ id: "edge-7" })
    const { code, stdout } = await bed.cli(["commands", "invoke", "one", "where", "-n", "far", "--json"])
    expect({ code, answer: JSON.parse(stdout) }).toMatchObject({ code: 0, answer: { id: "edge-7" } })
    expect(fs.statSync(file("client.json")).mode & 0o077).toBe(0)
    expect(fs.readFileSync(file("client.json"), "utf8")).not.toContain(there.admin)
  })

  test("is asked for nothing where nothing has changed; another name there means new tokens", async () => {
    expect((await alien.plan(stack(), bed.options(given()))).changes.map(({ action }) => action)).toEqual(["none"])
    await bed.deploy(stack(), given())
    expect(await tokens()).toEqual(["edge-7 invoke", "edge-7 receive one"])
    const deployment = await bed.deploy(stack(), given({ deploymentId: undefined }))
    expect(await deployment.invoke("one", "where")).toEqual({ url: there.url, id: "far" })
    expect(await tokens()).toEqual(expect.arrayContaining(["far invoke", "far receive one"]))
  })

  test("may give place to one of our own, and take it again", async () => {
    const deployment = await bed.deploy(stack())
    const { url } = await deployment.invoke("one", "where")
    expect(url).toBe(client().url)
    expect(url).not.toBe(there.url)
    expect(client().external).toBeUndefined()
    expect(fs.existsSync(file("elsewhere"))).toBe(false)
    const again = await bed.deploy(stack(), given())
    expect(await again.invoke("one", "where")).toEqual({ url: there.url, id: "edge-7" })
    // Nobody needs our own any more.
    expect(fs.existsSync(path.join(bed.stateDir, "deployments/@manager/daemons/manager"))).toBe(false)
  })

  test("that is away, or does not know the token, is told before anything is changed", async () => {
    const error = await failure(alien.deploy(stackOf("near", receiver("one")), bed.options(given({ token: "n0t-it" }))))
    expect(error).toMatchObject({ code: "MANAGER_REFUSED", httpStatusCode: 401, hint: expect.stringContaining("administrator") })
    expect(JSON.stringify(error)).not.toContain("n0t-it")
    expect(await failure(alien.deploy(stackOf("near", receiver("one")), bed.options(given({ url: "http://127.0.0.1:9" }))))).toMatchObject({ code: "MANAGER_UNREACHABLE", retryable: true, message: expect.stringMatching(/^the manager at http:\/\/127\.0\.0\.1:9 does not answer: /) })
    expect(await alien.deployments(bed.options())).toEqual(["far"])
    const invalid = await failure(alien.deploy(stack(), bed.options({ manager: { url: "ftp://me:hunter2@x", tokn: "t" } })))
    expect(invalid).toBeInstanceOf(alien.ValidationError)
    expect(invalid.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)).toEqual([
      'manager: unrecognized key "tokn"; did you mean "token"?',
      "manager.token: required, but not given",
      "manager.url: expected an http:// or https:// URL without user, query and fragment",
    ])
    expect(JSON.stringify(invalid)).not.toContain("hunter2")
  })

  test("takes the tokens back with the deployment, whose name the command line gives", async () => {
    const options = { env: { ALIEN_COMMANDS_ADMIN_TOKEN: there.admin } }
    const usage = await bed.cli(["destroy", "-n", "far", "--manager", there.url])
    expect(usage).toMatchObject({ code: 2, stderr: expect.stringContaining("ALIEN_COMMANDS_ADMIN_TOKEN") })
    const stackFile = path.join(bed.folder, "alien.js")
    fs.writeFileSync(stackFile, `module.exports = ${JSON.stringify(stack())}`)
    const deployed = await bed.cli(["deploy", "--file", stackFile, "--manager", there.url], options)
    expect(deployed).toMatchObject({ code: 0 })
    const { code } = await bed.cli(["destroy", "--file", stackFile, "--manager", there.url], options)
    expect(code).toBe(0)
    expect((await tokens()).filter((token) => token.startsWith("far"))).toEqual([])
    expect(fs.existsSync(file("client.json"))).toBe(false)
    expect(fs.existsSync(file("elsewhere"))).toBe(false)
    await eventually(() => ours().length === 0)
  })
})

needs(missing ?? noOpenssl).describe("a manager elsewhere, whose certificate is of an authority that nobody else knows", () => {
  const bed = testBed()
  const there = testManager({ start: false })
  const { prepare, stack } = daemons(bed)
  const at = (name) => path.join(there.folder, name)
  const manager = (more) => ({ url: there.url, token: there.admin, ...more })
  const pem = () => fs.readFileSync(at("ca.pem"), "utf8")

  beforeAll(async () => {
    await prepare()
    const { certificate, key } = authority(there.folder).issue(1)
    fs.writeFileSync(at("server.pem"), certificate)
    fs.writeFileSync(at("server.key"), key, { mode: 0o600 })
    there.ca = pem()
    await there.start(["--tls-certificate", at("server.pem"), "--tls-key", at("server.key")])
  }, 60_000)

  test("is not asked by who does not trust it, and gets no token", async () => {
    const error = await failure(alien.deploy(stack(), bed.options({ manager: manager() })))
    expect(error).toMatchObject({ code: "MANAGER_UNREACHABLE", message: expect.stringMatching(/certificate/i) })
    expect(await alien.deployments(bed.options())).toEqual([])
  })

  test("is trusted by whoever deploys, daemons and callers, once the file is named", async () => {
    const deployment = await bed.deploy(stack(), { manager: manager({ caFile: at("ca.pem") }) })
    expect(await deployment.invoke("one", "where")).toEqual({ url: there.url, id: "far" })
    expect(await deployment.invoke("one", "authority")).toBe(pem())
    const { code, stdout } = await bed.cli(["commands", "invoke", "one", "where", "-n", "far", "--json"])
    expect({ code, answer: JSON.parse(stdout) }).toMatchObject({ code: 0, answer: { url: there.url } })
    const { changes } = await alien.plan(stack(), bed.options({ manager: manager({ caFile: at("ca.pem") }) }))
    expect(changes.map(({ action }) => action)).toEqual(["none"])
  })

  test("other certificates mean a new version, which the command line and the environment bring as well", async () => {
    fs.appendFileSync(at("ca.pem"), fs.readFileSync(at("server.pem")))
    const stackFile = path.join(bed.folder, "alien.js")
    fs.writeFileSync(stackFile, `module.exports = ${JSON.stringify(stack())}`)
    const options = { env: { ALIEN_COMMANDS_ADMIN_TOKEN: there.admin } }
    const named = ["--file", stackFile, "--manager", there.url, "--manager-ca-file", at("ca.pem")]
    const { stdout } = await bed.cli(["plan", ...named, "--json"], options)
    expect(JSON.parse(stdout).changes).toMatchObject([{ id: "one", action: "update", fields: [{ path: "commandsAuthority" }] }])
    expect(await bed.cli(["deploy", ...named], options)).toMatchObject({ code: 0 })
    expect(await (await alien.connect(bed.options({ name: "far" }))).invoke("one", "authority")).toBe(pem())
    const env = { ...options.env, ALIEN_COMMANDS_CA_FILE: at("ca.pem") }
    const { stdout: again } = await bed.cli(["plan", ...named.slice(0, -2), "--json"], { env })
    expect(JSON.parse(again).changes).toMatchObject([{ action: "none" }])
  })

  test("a file that is none is told before anything is done", async () => {
    for (const [caFile, why] of [[at("none.pem"), /none\.pem cannot be used: No such file/], [at("server.key"), /server\.key cannot be used: it holds no certificate/]]) {
      const error = await failure(alien.deploy(stack(), bed.options({ manager: manager({ caFile }) })))
      expect(error.issues).toMatchObject([{ path: ["manager", "caFile"], message: expect.stringMatching(why) }])
    }
    const plain = await failure(alien.deploy(stack(), bed.options({ manager: { ...manager({ caFile: at("ca.pem") }), url: "http://127.0.0.1:9" } })))
    expect(plain.issues).toMatchObject([{ path: ["manager", "caFile"], message: "goes with an https:// address" }])
  })
})
