"use strict"

// Where what tests need and what takes long to make is kept, outside of clones.

const { homedir } = require("node:os")
const { join } = require("node:path")

const cacheDir = () => process.env.ALIEN_TEST_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "alien-test")

module.exports = { cacheDir }
