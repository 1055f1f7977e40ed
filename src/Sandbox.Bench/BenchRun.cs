using System.Diagnostics;
using System.Globalization;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Report;
using Sandbox.Isolation.Backends;
using Sandbox.Server;
using Spectre.Console;

namespace Sandbox.Bench;

/// <summary>Runs benches one after the other. One that cannot be run does not keep the others from running.</summary>
internal sealed class BenchRun(IAnsiConsole output, bool json)
{
    /// <summary>Runs them and returns the exit code.</summary>
    public async Task<int> RunAsync(IReadOnlyList<IBench> benches, BenchContext context, CancellationToken cancellationToken)
    {
        var results = new List<BenchResult>();
        var errors = new Dictionary<string, string>(StringComparer.Ordinal);
        var began = Stopwatch.GetTimestamp();
        foreach (var bench in benches)
        {
            try
            {
                context.Say($"{bench.Name}: {bench.Summary}");
                var result = await bench.RunAsync(context with { Say = text => context.Say($"{bench.Name}: {text}") }, cancellationToken);
                results.Add(result);
                ResultTable.Write(output, result);
            }
            catch (Exception) when (cancellationToken.IsCancellationRequested)
            {
                context.Say("interrupted; nothing is left running");
                return ExitCodes.Interrupted;
            }
            catch (Exception e) when (e is BenchException or IsolationException or ServerException or NotSupportedException)
            {
                Fail(context, errors, bench.Name, e.Message);
            }
            catch (Exception e)
            {
                Fail(context, errors, bench.Name, e.ToString());
            }
        }

        if (benches.Count > 1)
        {
            context.Say(string.Create(CultureInfo.InvariantCulture, $"all of them took {Stopwatch.GetElapsedTime(began).TotalMinutes:0.0} minutes; {results.Count(r => r.Met)} met all their targets, {results.Count(r => !r.Met)} missed one"));
        }

        if (json)
        {
            output.Profile.Out.Writer.Flush();
            await Console.Out.WriteLineAsync(benches.Count == 1 && results.Count == 1 ? JsonLine.Of(results[0]) : JsonLine.Of(results, errors));
        }

        return errors.Count > 0 ? ExitCodes.Failed : results.All(r => r.Met) ? ExitCodes.Met : ExitCodes.Missed;
    }

    private static void Fail(BenchContext context, Dictionary<string, string> errors, string name, string message)
    {
        errors[name] = message;
        context.Say($"error: {name} could not be run: {message}");
    }
}
