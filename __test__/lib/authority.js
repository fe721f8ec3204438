"use strict"

// Certificates for managers that speak TLS, of an authority that the tests have made.

const { execFileSync, spawnSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")

const missing = spawnSync("openssl", ["version"]).error === undefined ? undefined : "openssl is not installed"

const openssl = (...args) => execFileSync("openssl", args, { stdio: "pipe" })
const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

/** An authority in a folder: `{ca, key, issue}`, files with its certificate and its key, and what makes others. */
function authority(folder) {
  const at = (name) => path.join(folder, name)
  openssl("req", "-x509", ...KEY, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=the tests", "-days", "2")

  /** A certificate for 127.0.0.1; `{certificate, key}` in PEM. */
  function issue(serial) {
    openssl("req", ...KEY, "-keyout", at("new.key"), "-out", at("new.csr"), "-subj", `/CN=manager ${serial}`)
    fs.writeFileSync(at("new.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl("x509", "-req", "-in", at("new.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-set_serial", `${serial}`, "-days", "2", "-extfile", at("new.ext"), "-out", at("new.pem"))
    return { certificate: fs.readFileSync(at("new.pem")), key: fs.readFileSync(at("new.key")) }
  }

  return { ca: at("ca.pem"), key: at("ca.key"), issue }
}

module.exports = { authority, missing }
