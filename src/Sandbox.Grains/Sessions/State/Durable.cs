using Microsoft.Extensions.Logging;
using Orleans.Storage;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>
/// A stored document whose changes become visible only once they are written: <see cref="Current"/> is always what storage has. Changes asked for
/// while a write is under way are applied in order and written together. For one grain's scheduler only.
/// </summary>
internal sealed class Durable<T>(IPersistentState<T> storage, string what, ILogger logger, Action onConflict)
    where T : class, new()
{
    private readonly List<Pending> _pending = [];
    private bool _writing;

    /// <summary>The document as stored.</summary>
    public T Current { get; private set; } = storage.State;

    /// <summary>Takes what storage loaded at activation.</summary>
    public void Load() => Current = storage.State;

    /// <summary>Reads what storage has.</summary>
    public async Task ReadAsync()
    {
        await storage.ReadStateAsync();
        Current = storage.State;
    }

    /// <summary>
    /// Applies a change and returns once it is stored. A change that returns the same document writes nothing; one that throws changes nothing and fails
    /// this call alone.
    /// </summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Unavailable"/>: storage failed; nothing was announced.</exception>
    public Task<T> UpdateAsync(Func<T, T> change)
    {
        var pending = new Pending(change);
        _pending.Add(pending);
        if (!_writing)
        {
            _writing = true;
            _ = DrainAsync();
        }

        return pending.Done.Task;
    }

    /// <summary>Removes the document from storage.</summary>
    public async Task ClearAsync()
    {
        await storage.ClearStateAsync();
        storage.State = new T();
        Current = storage.State;
    }

    private async Task DrainAsync()
    {
        try
        {
            while (_pending.Count > 0)
            {
                var batch = _pending.ToArray();
                _pending.Clear();
                var next = Current;
                var applied = new List<Pending>(batch.Length);
                foreach (var pending in batch)
                {
                    try
                    {
                        next = pending.Change(next);
                        applied.Add(pending);
                    }
                    catch (Exception e)
                    {
                        pending.Done.SetException(e);
                    }
                }

                if (!ReferenceEquals(next, Current) && await WriteAsync(next) is { } error)
                {
                    applied.ForEach(p => p.Done.SetException(error));
                    continue;
                }

                applied.ForEach(p => p.Done.SetResult(Current));
            }
        }
        finally
        {
            _writing = false;
        }
    }

    private async Task<SandboxException?> WriteAsync(T next)
    {
        try
        {
            storage.State = next;
            await storage.WriteStateAsync();
            Current = next;
            return null;
        }
        catch (Exception e)
        {
            logger.LogError(e, "{What} could not be written", what);
            storage.State = Current;
            if (e is InconsistentStateException)
            {
                // Another activation wrote: this one is a ghost and must go before it does harm.
                onConflict();
            }
            else
            {
                await ReloadAsync();
            }

            return SandboxException.Unavailable($"{what} could not be written; nothing was changed. Try again.");
        }
    }

    /// <summary>A write that failed may still have arrived: only storage knows.</summary>
    private async Task ReloadAsync()
    {
        try
        {
            await storage.ReadStateAsync();
            Current = storage.State;
        }
        catch (Exception e)
        {
            logger.LogError(e, "{What} could not be read back", what);
            storage.State = Current;
            onConflict();
        }
    }

    private sealed record Pending(Func<T, T> Change)
    {
        public TaskCompletionSource<T> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
