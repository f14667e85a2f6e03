# The Ricker model as a program for sf.command_simulator(["Rscript", "ricker.R"], prior): base R only.
#
#   reads   {"seed": 1, "theta": {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}}        one request a line
#   writes  {"y": [12, 0, 1, ...]}                                                one answer a line
#
# Only answers go to stdout; use message() for anything else. stop() ends the program: the simulation counts as failed, with the message.

number <- function(request, name) {
  found <- regmatches(request, regexec(paste0('"', name, '": ([-+.0-9e]+)'), request))[[1]]
  as.numeric(found[2])
}

# N_{t+1} = r N_t exp(-N_t + sigma e_t), N_0 = 1; counts are Poisson(rho N_t), from the first transition on.
ricker <- function(log_r, sigma, rho, steps = 100) {
  population <- numeric(steps)
  n <- 1
  for (t in seq_len(steps)) {
    n <- n * exp(log_r - n + sigma * rnorm(1))
    population[t] <- n
  }
  rpois(steps, rho * population)
}

input <- file("stdin", "r")
while (length(request <- readLines(input, n = 1)) > 0) {
  set.seed(number(request, "seed"))
  y <- ricker(number(request, "log_r"), number(request, "sigma"), number(request, "rho"))
  cat('{"y": [', paste(sprintf("%.17g", y), collapse = ", "), "]}\n", sep = "")
  flush(stdout())
}
