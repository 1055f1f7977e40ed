namespace Sandbox.Storage.TestSilo;

/// <summary>A grain with everything a store has to keep: state, and a reminder.</summary>
[Alias("storage-test.ICounterGrain")]
public interface ICounterGrain : IGrainWithStringKey
{
    /// <summary>Adds to the stored number and returns it.</summary>
    [Alias("Add")]
    Task<int> AddAsync(int number);

    /// <summary>The number as this activation knows it.</summary>
    [Alias("Get")]
    Task<int> GetAsync();

    /// <summary>The silo it runs on.</summary>
    [Alias("Where")]
    Task<string> WhereAsync();

    /// <summary>Sets a reminder that adds one each time it fires.</summary>
    [Alias("Remind")]
    Task RemindAsync(TimeSpan period);

    /// <summary>Removes the reminder.</summary>
    [Alias("Forget")]
    Task ForgetAsync();

    /// <summary>Removes the state.</summary>
    [Alias("Clear")]
    Task ClearAsync();
}

/// <summary>What is stored.</summary>
[GenerateSerializer, Alias("storage-test.CounterState")]
public sealed class CounterState
{
    /// <summary>The number.</summary>
    [Id(0)]
    public int Number { get; set; }
}
