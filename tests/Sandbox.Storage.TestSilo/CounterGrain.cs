namespace Sandbox.Storage.TestSilo;

internal sealed class CounterGrain(
    [PersistentState("counter", StorageProviders.State)] IPersistentState<CounterState> state,
    ILocalSiloDetails silo) : Grain, ICounterGrain, IRemindable
{
    public async Task<int> AddAsync(int number)
    {
        state.State.Number += number;
        await state.WriteStateAsync();
        return state.State.Number;
    }

    public Task<int> GetAsync() => Task.FromResult(state.State.Number);

    public Task<string> WhereAsync() => Task.FromResult(silo.SiloAddress.ToParsableString());

    public Task RemindAsync(TimeSpan period) => this.RegisterOrUpdateReminder("count", period, period);

    public async Task ForgetAsync()
    {
        if (await this.GetReminder("count") is { } reminder)
        {
            await this.UnregisterReminder(reminder);
        }
    }

    public Task ClearAsync() => state.ClearStateAsync();

    public Task ReceiveReminder(string reminderName, TickStatus status) => AddAsync(1);
}
