-- What wrk sends, and the report that it prints as its last line.
-- Arguments: the method, the size of the body in bytes.
-- No `response` function: with one, wrk would copy every body into Lua.

function init(arguments)
  wrk.method = arguments[1]
  local size = tonumber(arguments[2])
  if size > 0 then
    wrk.body = string.rep("\170", size)
    wrk.headers["Content-Type"] = "application/x-protobuf"
    wrk.headers["Content-Encoding"] = "snappy"
    wrk.headers["X-Prometheus-Remote-Write-Version"] = "0.1.0"
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "refused": %d, "broken": %d, ' ..
    '"p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
