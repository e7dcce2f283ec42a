-- With a number as argument, that part of the requests is for pages that nobody has asked for before: each
-- has another highest price, above all prices.
init = function(arguments)
   local part = tonumber(arguments[1])
   if not part then return end
   local owed, price = 0, 1000000
   request = function()
      owed = owed + part
      if owed < 1 then return wrk.format() end
      owed, price = owed - 1, price + 1
      return wrk.format(nil, wrk.path .. "&max_price=" .. price)
   end
end

-- What wrk has measured, as one line of JSON; microseconds.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "p999": %d, "failed": %d}\n',
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
