"use strict"

// A manager that speaks TLS: with whom it may be spoken to, and certificates that are renewed under way.

const { spawnSync } = require("node:child_process")
const fs = require("node:fs")
const net = require("node:net")
const path = require("node:path")
const tls = require("node:tls")
const { CommandsClient } = require("@alienplatform/core/commands")
const { authority, missing: noOpenssl } = require("./lib/authority.js")
const { cli, eventually, failure, needs } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")
const { program } = require("./lib/process.js")

const without = missing ?? noOpenssl

needs(without).describe("a manager that speaks TLS", () => {
  const manager = testManager({ start: false })
  const at = (name) => path.join(manager.folder, name)
  const certificate = ["--tls-certificate", at("server.pem"), "--tls-key", at("server.key")]
  let issue

  /** Replaces a file as those do who renew certificates: whole. */
  function put(name, contents) {
    fs.writeFileSync(at(`${name}.next`), contents, { mode: 0o600 })
    fs.renameSync(at(`${name}.next`), at(name))
  }
  /** A new connection, open; with the name that its certificate is made out to. */
  async function connect() {
    const socket = tls.connect({ host: "127.0.0.1", port: Number(new URL(manager.url).port), ca: fs.readFileSync(at("ca.pem")) })
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject))
    return Object.assign(socket, { serves: socket.getPeerCertificate().subject.CN })
  }
  async function served() {
    const socket = await connect()
    socket.destroy()
    return socket.serves
  }

  beforeAll(async () => {
    issue = authority(manager.folder).issue
    const { certificate: pem, key } = issue(1)
    put("server.pem", pem)
    put("server.key", key)
    manager.ca = fs.readFileSync(at("ca.pem"))
    await manager.start(certificate)
  })

  test("its callers and its daemons use it, and check who it is", async () => {
    expect(manager.url).toMatch(/^https:/)
    const env = { ALIEN_COMMANDS_CA_FILE: at("ca.pem") }
    const receiver = await manager.receiver("worker", { env })
    const client = await manager.client({ caFile: at("ca.pem") })
    expect(await client.target("worker").invoke("echo", { over: "TLS" })).toEqual({ over: "TLS" })
    // So does the command line.
    const { code, stdout } = await cli(["commands", "invoke", "worker", "echo", "--params", "7", "--manager", manager.url, "--name", manager.deployment], {
      env: { ALIEN_COMMANDS_TOKEN: (await manager.token("invoke")).token, ALIEN_COMMANDS_CA_FILE: at("ca.pem") },
    })
    expect({ code, stdout }).toEqual({ code: 0, stdout: "7\n" })
    // The addresses of large bodies say so too.
    const large = "x".repeat(400_000)
    expect(await client.target("worker").invoke("echo", large)).toBe(large)
    await receiver.kill("SIGTERM")

    // One that does not know who signed its certificate sends no token there.
    const stranger = await manager.client()
    expect(await failure(stranger.target("worker").invoke("echo", {}, { timeoutMs: 500 }))).toMatchObject({ message: expect.stringMatching(/certificate/) })
  })

  test("plain HTTP is no way in, and one who says nothing holds nobody up", async () => {
    const silent = net.connect(Number(new URL(manager.url).port), "127.0.0.1")
    const plain = new CommandsClient({ managerUrl: manager.url.replace("https:", "http:"), deploymentId: "edge", token: "t" })
    expect(await failure(plain.list())).toMatchObject({ code: "MANAGER_UNREACHABLE" })
    expect(await served()).toBe("manager 1")
    silent.destroy()
    plain.close()
  })

  test("a renewed certificate is served at once; connections that there are go on", async () => {
    const before = await connect()
    const { certificate: pem, key } = issue(2)
    // Half of it: the two do not fit, and the former go on.
    put("server.pem", pem)
    expect(await served()).toBe("manager 1")
    await eventually(() => manager.process.stderr, (said) => said.includes("cannot be used together"))
    put("server.key", key)
    expect(await served()).toBe("manager 2")

    const answer = new Promise((resolve) => before.once("data", (data) => resolve(data.toString())))
    before.write("GET /healthz HTTP/1.1\r\nhost: manager\r\n\r\n")
    expect(await answer).toMatch(/^HTTP\/1\.1 200/)
    before.destroy()
  })

  test("files that are gone for a while change nothing", async () => {
    const serves = await served()
    fs.renameSync(at("server.pem"), at("away.pem"))
    expect(await served()).toBe(serves)
    fs.renameSync(at("away.pem"), at("server.pem"))
    expect(await served()).toBe(serves)
    expect(manager.process.stderr).not.toContain("PRIVATE KEY")
  })

  describe("does not start", () => {
    const refused = (...args) => {
      const { status, stderr } = spawnSync(program, ["serve", "--data", at("other"), ...args], { encoding: "utf8", timeout: 20_000 })
      return { status, stderr }
    }
    test.each([
      ["on an open network without a certificate", ["--listen", "0.0.0.0:0"], /0\.0\.0\.0:0 is not on loopback.*--tls-certificate/],
      ["without the key", ["--tls-certificate", at("server.pem")], /--tls-key/],
      ["without the certificate's file", ["--tls-certificate", at("none.pem"), "--tls-key", at("server.key")], /none\.pem: No such file/],
      ["with a key that is another's", ["--tls-certificate", at("server.pem"), "--tls-key", at("ca.key")], /server\.pem and .*ca\.key cannot be used together/],
      ["with a certificate that is none", ["--tls-certificate", at("server.key"), "--tls-key", at("server.key")], /there is no certificate in .*server\.key/],
      ["with a key that is none", ["--tls-certificate", at("server.pem"), "--tls-key", at("server.pem")], /the private key .*server\.pem cannot be read/],
      ["told to speak both", ["--allow-plain-http", ...certificate], /cannot be used with/],
    ])("%s", (_, args, message) => {
      const { status, stderr } = refused(...args)
      expect(status).not.toBe(0)
      expect(stderr).toMatch(message)
    })
  })

  test("plain HTTP on an open network is spoken where that is said", async () => {
    await manager.process.kill("SIGTERM")
    await manager.start(["--allow-plain-http"], "0.0.0.0:0")
    expect(manager.url).toMatch(/^http:\/\/0\.0\.0\.0:/)
    expect((await fetch(`${manager.url}/healthz`)).status).toBe(200)
  })
})
