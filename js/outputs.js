"use strict"

// Reading what a deployed resource reports about itself.

const { AlienError, defineError } = require("./errors.js")

const ResourceNotFoundError = defineError({
  code: "RESOURCE_NOT_FOUND",
  message: ({ resourceId, availableResources }) =>
    `The deployment has no resource "${resourceId}"${availableResources.length ? `; it has ${availableResources.map((id) => `"${id}"`).join(", ")}` : ""}`,
  httpStatusCode: 404,
})

const UnexpectedResourceTypeError = defineError({
  code: "UNEXPECTED_RESOURCE_TYPE",
  message: ({ resourceId, expectedType, actualType }) => `"${resourceId}" is a ${actualType}, not a ${expectedType}`,
  httpStatusCode: 400,
})

const ResourceOutputsParseError = defineError({
  code: "RESOURCE_OUTPUTS_PARSE_ERROR",
  message: ({ resourceId, reason }) => `The outputs of "${resourceId}" are not as expected: ${reason}`,
})

/** What every resource of a type reports. */
const SHAPES = {
  daemon: (outputs) => {
    if (typeof outputs?.daemonName !== "string") throw new TypeError("daemonName is not a string")
    if (typeof outputs.running !== "boolean") throw new TypeError("running is not a boolean")
    return outputs
  },
}

function getResourceOutputs(state, resource, schema) {
  const wanted = typeof resource === "string" ? { id: resource } : (resource?.config ?? resource)
  const resourceId = wanted?.id
  // A stack's state holds its resources by id, a deployment's status in a list.
  const resources = state?.resources ?? {}
  const entries = Array.isArray(resources) ? resources.map((entry) => [entry.id, entry]) : Object.entries(resources)
  const entry = entries.find(([id]) => id === resourceId)?.[1]
  const fail = (definition, context) => {
    const error = new AlienError(definition.create(context))
    Error.captureStackTrace?.(error, getResourceOutputs)
    return error
  }
  if (entry === undefined) {
    throw fail(ResourceNotFoundError, { resourceId, availableResources: entries.map(([id]) => id) })
  }
  if (wanted.type !== undefined && entry.type !== wanted.type) {
    throw fail(UnexpectedResourceTypeError, { resourceId, expectedType: wanted.type, actualType: entry.type })
  }
  if (entry.outputs === undefined || entry.outputs === null) {
    throw fail(ResourceOutputsParseError, { resourceId, reason: "it has none yet" })
  }
  const parse = schema === undefined ? SHAPES[entry.type] : (outputs) => schema.parse(outputs)
  try {
    return parse === undefined ? entry.outputs : parse(entry.outputs)
  } catch (error) {
    throw fail(ResourceOutputsParseError, { resourceId, reason: error?.message ?? String(error) })
  }
}

module.exports = { ResourceNotFoundError, ResourceOutputsParseError, UnexpectedResourceTypeError, getResourceOutputs }
