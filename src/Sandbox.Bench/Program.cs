using Sandbox.Bench;

return await CommandLine.InvokeAsync(args);
