namespace Sandbox.Storage.Tests;

/// <summary>A grain that keeps a number and can be reminded.</summary>
public interface ICounterGrain : IGrainWithStringKey
{
    Task<int> AddAsync(int value);

    Task<int> GetAsync();

    Task ClearAsync();

    Task RemindAsync();

    Task<int> RemindersAsync();

    Task ForgetReminderAsync();
}

[GenerateSerializer]
public sealed class CounterState
{
    [Id(0)]
    public int Value { get; set; }
}

public sealed class CounterGrain([PersistentState("counter", StorageProviders.State)] IPersistentState<CounterState> state) : Grain, ICounterGrain, IRemindable
{
    public async Task<int> AddAsync(int value)
    {
        state.State.Value += value;
        await state.WriteStateAsync();
        return state.State.Value;
    }

    public Task<int> GetAsync() => Task.FromResult(state.State.Value);

    public Task ClearAsync() => state.ClearStateAsync();

    public Task RemindAsync() => this.RegisterOrUpdateReminder("wake", TimeSpan.FromHours(1), TimeSpan.FromHours(1));

    public async Task<int> RemindersAsync() => (await this.GetReminders()).Count;

    public async Task ForgetReminderAsync()
    {
        if (await this.GetReminder("wake") is { } reminder)
        {
            await this.UnregisterReminder(reminder);
        }
    }

    public Task ReceiveReminder(string reminderName, TickStatus status) => Task.CompletedTask;
}
