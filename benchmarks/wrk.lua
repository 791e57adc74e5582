-- What wrk sends, and the report that it prints as its last line.
-- Arguments: the method, the size of the body in bytes.

local workers = {}

function setup(thread)
  table.insert(workers, thread)
end

function init(arguments)
  bad = 0
  wrk.method = arguments[1]
  local size = tonumber(arguments[2])
  if size > 0 then
    wrk.body = string.rep("\170", size)
    wrk.headers["Content-Type"] = "application/x-protobuf"
    wrk.headers["Content-Encoding"] = "snappy"
    wrk.headers["X-Prometheus-Remote-Write-Version"] = "0.1.0"
  end
end

function response(status)
  if status < 200 or status > 299 then
    bad = bad + 1
  end
end

function done(summary, latency)
  local not_2xx = 0
  for _, worker in ipairs(workers) do
    not_2xx = not_2xx + worker:get("bad")
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "not_2xx": %d, "broken": %d, ' ..
    '"p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, not_2xx,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
