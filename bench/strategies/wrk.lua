-- What wrk has measured, as one line of JSON; microseconds.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "p999": %d, "failed": %d}\n',
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
