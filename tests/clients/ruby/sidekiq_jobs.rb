# Jobs for Sidekiq as it comes: this file is what `sidekiq -r` loads, and what puts the jobs in.

require 'sidekiq'
require 'sidekiq/api'

# How often the process looks for jobs whose time has come.
Sidekiq.options[:poll_interval_average] = 1

def tell(*words)
  Sidekiq.redis { |redis| redis.rpush('results', words.join(' ')) }
end

class Count
  include Sidekiq::Worker

  def perform(number)
    Sidekiq.redis { |redis| redis.incrby('sum', number) }
    tell('counted', number)
  end
end

class FailOnce
  include Sidekiq::Worker
  sidekiq_options retry: 3
  sidekiq_retry_in { 1 }

  def perform(name)
    tries = Sidekiq.redis { |redis| redis.incr("tries:#{name}") }
    raise 'the first time it fails' if tries == 1

    tell('tried', name, tries)
  end
end

class Hopeless
  include Sidekiq::Worker
  sidekiq_options retry: 0, queue: 'low'
  sidekiq_retries_exhausted { |job, _error| tell('dead', job['args'].first) }

  def perform(_name)
    raise 'always'
  end
end

# Ends only when it is let go on; told to stop before, it goes back into its queue.
class Long
  include Sidekiq::Worker

  def perform(name)
    tell('begun', name)
    Sidekiq.redis { |redis| redis.brpoplpush('go', 'gone', timeout: 30) }
    tell('done', name)
  end
end

case ARGV.first
when 'put'
  Sidekiq::Client.push_bulk('class' => Count, 'args' => (1..500).map { |number| [number] })
  Count.perform_in(2, 1000)
  FailOnce.perform_async('flaky')
  Hopeless.perform_async('lost')
  scheduled = Sidekiq::ScheduledSet.new
  raise 'not scheduled' unless scheduled.size == 1 && scheduled.first.args == [1000]
  raise 'not queued' unless Sidekiq::Queue.new.size == 501 && Sidekiq::Queue.new('low').size == 1

  job = Count.perform_at(Time.now + 3600, 5)
  raise 'not found' unless scheduled.find_job(job)&.delete && scheduled.size == 1
when 'check'
  stats = Sidekiq::Stats.new
  dead = Sidekiq::DeadSet.new
  puts [stats.processed, stats.failed, stats.enqueued, stats.retry_size, dead.size, dead.first.args.first,
        Sidekiq::ProcessSet.new.size].join(' ')
when 'long'
  Long.perform_async('patience')
end
