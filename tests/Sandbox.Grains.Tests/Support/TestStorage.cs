using System.Collections.Concurrent;
using Orleans.Serialization;
using Orleans.Storage;

namespace Sandbox.Grains.Tests.Support;

/// <summary>Grain storage in memory that all silos of a test share, with real ETags, that survives silos and can be told to fail.</summary>
internal sealed class TestStorage
{
    private readonly ConcurrentDictionary<string, (byte[] Data, string ETag)> _records = new();
    private long _etag;

    /// <summary>Called before each write with the state's name and the grain; may throw or wait.</summary>
    public Func<string, GrainId, Task> BeforeWrite { get; set; } = (_, _) => Task.CompletedTask;

    public bool Has(string stateName, string key) => _records.Keys.Any(k => k.StartsWith(stateName + "|", StringComparison.Ordinal) && k.EndsWith(key, StringComparison.Ordinal));

    /// <summary>All that is stored, as bytes read for text: what must not be found in there is not.</summary>
    public IEnumerable<string> AllText() => _records.Values.Select(r => System.Text.Encoding.Latin1.GetString(r.Data));

    public IGrainStorage For(Serializer serializer) => new Adapter(this, serializer);

    private sealed class Adapter(TestStorage store, Serializer serializer) : IGrainStorage
    {
        public Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
        {
            if (store._records.TryGetValue(Key(stateName, grainId), out var record))
            {
                grainState.State = serializer.Deserialize<T>(record.Data);
                grainState.ETag = record.ETag;
                grainState.RecordExists = true;
            }
            else
            {
                grainState.State = Activator.CreateInstance<T>();
                grainState.ETag = null;
                grainState.RecordExists = false;
            }

            return Task.CompletedTask;
        }

        public async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
        {
            await store.BeforeWrite(stateName, grainId);
            var key = Key(stateName, grainId);
            var next = (serializer.SerializeToArray(grainState.State), Interlocked.Increment(ref store._etag).ToString(System.Globalization.CultureInfo.InvariantCulture));
            var done = store._records.TryGetValue(key, out var now)
                ? now.ETag == grainState.ETag && store._records.TryUpdate(key, next, now)
                : grainState.ETag is null && store._records.TryAdd(key, next);
            if (!done)
            {
                throw new InconsistentStateException("Another write came first.");
            }

            grainState.ETag = next.Item2;
            grainState.RecordExists = true;
        }

        public Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
        {
            store._records.TryRemove(Key(stateName, grainId), out _);
            grainState.ETag = null;
            grainState.RecordExists = false;
            return Task.CompletedTask;
        }

        private static string Key(string stateName, GrainId grainId) => $"{stateName}|{grainId}";
    }
}
