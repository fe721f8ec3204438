"use strict"

// The real registry, Debian's `docker-registry`, with users: started on any address, and images put into it.

const { execFileSync, spawn } = require("node:child_process")
const fs = require("node:fs")
const net = require("node:net")
const path = require("node:path")
const { eventually, has } = require("./bed.js")

/** Why it cannot be had; undefined where it can. */
function missing() {
  const absent = ["docker-registry", "htpasswd", "skopeo"].find((program) => !has(program))
  return absent && `${absent} is not installed (apt-get install docker-registry apache2-utils skopeo)`
}

async function freePort(address = "127.0.0.1") {
  const server = net.createServer()
  await new Promise((resolve) => server.listen(0, address, resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/**
 * Starts one that lets in `username` with `password`, and nobody else, or without them everybody; ends with the test bed.
 *
 * @param {object} bed the file's test bed
 */
async function startRegistry(bed, { address = "127.0.0.1", username, password }) {
  const host = `${address}:${await freePort(address)}`
  const dir = fs.mkdtempSync(path.join(bed.folder, "registry-"))
  const users = path.join(dir, "users")
  const its = {
    host,
    url: `http://${host}`,
    password,
    /** From the next request on. */
    setPassword(next) {
      fs.writeFileSync(`${users}.new`, execFileSync("htpasswd", ["-Bbn", username, next]))
      fs.renameSync(`${users}.new`, users)
      its.password = next
    },
    /** Puts an image (`oci:DIR:TAG`) into `repository:tag`. */
    push: (image, name) =>
      execFileSync("skopeo", ["copy", "--dest-tls-verify=false", `--dest-creds=${username}:${its.password}`, image, `docker://${host}/${name}`], { stdio: "pipe" }),
    /** A Docker configuration that has the credentials for it, by all the names it is called. */
    dockerConfig(hosts = [host]) {
      const file = path.join(dir, "config.json")
      const auth = Buffer.from(`${username}:${its.password}`).toString("base64")
      fs.writeFileSync(file, JSON.stringify({ auths: Object.fromEntries(hosts.map((name) => [name, { auth }])) }))
      return file
    },
  }
  if (username !== undefined) its.setPassword(password)
  fs.writeFileSync(path.join(dir, "config.yml"), JSON.stringify({
    version: "0.1",
    storage: { filesystem: { rootdirectory: path.join(dir, "data") } },
    http: { addr: host },
    ...(username === undefined ? {} : { auth: { htpasswd: { realm: "test", path: users } } }),
    log: { level: "error" },
  }))
  const child = spawn("docker-registry", ["serve", path.join(dir, "config.yml")], { stdio: "ignore" })
  bed.later(() => new Promise((resolve) => (child.on("exit", resolve), child.kill())))
  await eventually(() => fetch(`${its.url}/v2/`).then(({ status }) => status, () => 0), (status) => status === (username === undefined ? 200 : 401))
  return its
}

module.exports = { freePort, missing, startRegistry }
