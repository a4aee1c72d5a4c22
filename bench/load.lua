-- wrk script: takes whole HTTP requests from a file ("LENGTH\nBYTES", repeated) in turn, and puts the number of the
-- request in the place of ten zeros, so that no two are alike; prints one line of JSON.
local NUMBER = "0000000000"
local requests, turn = {}, 0
local sent = os.time() % 100000 * 100000  -- runs that follow one another do not repeat each other, either

function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local length = file:read("*n")
    if not length then break end
    file:read(1)
    local text = file:read(length)
    local first, last = string.find(text, NUMBER, 1, true)
    requests[#requests + 1] = {string.sub(text, 1, first - 1), string.sub(text, last + 1)}
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  sent = sent + 1
  local parts = requests[turn]
  return parts[1] .. string.format("%010d", sent) .. parts[2]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n@{"requests":%d,"microseconds":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
