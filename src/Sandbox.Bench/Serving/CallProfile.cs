using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Sandbox.Bench.Measuring;

namespace Sandbox.Bench.Serving;

/// <summary>Times every call that actors of a server in this process answer, and Orleans' own activities (storage reads and writes among them). For finding where time goes; itself costs little, and is off otherwise.</summary>
internal sealed class CallProfile : IIncomingGrainCallFilter, IDisposable
{
    private readonly ConcurrentDictionary<string, ConcurrentQueue<double>> _times = new(StringComparer.Ordinal);
    private readonly ActivityListener _listener;
    private volatile bool _on;

    public CallProfile()
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name.StartsWith("Microsoft.Orleans", StringComparison.Ordinal),
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activity => Note($"{activity.Source.Name}: {activity.DisplayName} {activity.GetTagItem("orleans.storage.state.name") ?? activity.GetTagItem("orleans.storage.state.type")}", activity.Duration),
        };
        ActivitySource.AddActivityListener(_listener);
    }

    /// <summary>Adds it to a server that is being built.</summary>
    public void AddTo(IServiceCollection services) => services.AddSingleton<IIncomingGrainCallFilter>(this);

    /// <summary>From now on.</summary>
    public void Start() => _on = true;

    /// <inheritdoc/>
    public async Task Invoke(IIncomingGrainCallContext context)
    {
        var began = Stopwatch.GetTimestamp();
        try
        {
            await context.Invoke();
        }
        finally
        {
            Note($"{context.InterfaceName.Split('.')[^1]}.{context.MethodName}", Stopwatch.GetElapsedTime(began));
        }
    }

    /// <summary>Tells what was seen: calls for each sample, and their time.</summary>
    public void Say(Action<string> say, int samples)
    {
        _on = false;
        foreach (var (what, times) in _times.OrderByDescending(t => t.Value.Sum()))
        {
            var d = Distribution.Of(times);
            say($"profile: {(double)d.Count / samples,6:0.0} × {d.Median,8:0.00} ms (p95 {d.P95:0.00}, sum {times.Sum() / samples:0.00} a sample)  {what}");
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();

    private void Note(string what, TimeSpan time)
    {
        if (_on)
        {
            _times.GetOrAdd(what, _ => new ConcurrentQueue<double>()).Enqueue(time.TotalMilliseconds);
        }
    }
}
