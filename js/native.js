"use strict"

// Finds the native addon. It is loaded at the first call that needs it, not at import: a program that only catches
// errors or receives commands never pays for it.

const { AlienError } = require("./errors.js")

const path = require("node:path")

let loaded
let loadedFrom

/** The platform's name in file and package names: `linux-x64-gnu`. */
function triple() {
  const { platform, arch } = process
  // Which libc is in use matters only once loading has failed; see `libc`.
  if (platform === "linux") return `linux-${arch}-gnu`
  return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`
}

/** The C library of this process, in words. */
function libc() {
  if (process.platform !== "linux") return ""
  const version = process.report.getReport().header.glibcVersionRuntime
  return version ? `, glibc ${version}` : ", musl"
}

/**
 * The addon's functions.
 *
 * @throws {AlienError} `NATIVE_ADDON_NOT_FOUND` when there is none for this machine, `NATIVE_ADDON_BROKEN` when there is
 * one that does not load.
 */
function native() {
  if (loaded !== undefined) return loaded
  const name = triple()
  const packageName = `@alienplatform/core-${name}`
  // In a checkout the addon lies beside package.json; once installed, in the platform's own package.
  for (const candidate of [`../alien.${name}.node`, packageName]) {
    let file
    try {
      file = require.resolve(candidate)
    } catch {
      continue
    }
    try {
      loaded = require(file)
      loadedFrom = file
      return loaded
    } catch (error) {
      throw new AlienError({
        code: "NATIVE_ADDON_BROKEN",
        message: `The native addon ${file} does not load on ${process.platform} ${process.arch}${libc()}: ${error.message}`,
        context: { file },
        hint: "install @alienplatform/core again on this machine: node_modules cannot be copied between systems",
      })
    }
  }
  throw new AlienError({
    code: "NATIVE_ADDON_NOT_FOUND",
    message: `@alienplatform/core has no native addon for ${process.platform} ${process.arch}${libc()}: neither alien.${name}.node nor the package ${packageName} was found`,
    context: { platform: process.platform, arch: process.arch, packageName },
    hint: `npm install ${packageName} (npm leaves it out with --omit=optional, or when the lock file was made on another system); in a checkout: npm run build`,
  })
}

/** The program that keeps daemons alive; it is shipped beside the addon. */
function helperPath() {
  native()
  return path.join(path.dirname(loadedFrom), "alien-supervisor")
}

module.exports = { helperPath, native }
